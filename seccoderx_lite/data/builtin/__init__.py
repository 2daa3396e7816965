"""What ships inside the package: the tiny base, its data sets, and the code templates."""
