"""What ships inside the package: the tiny base, its tasks and labelled code, their makers."""
