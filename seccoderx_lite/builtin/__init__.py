"""What ships inside the package: the tiny base model, its tasks and labelled code, and their makers."""
