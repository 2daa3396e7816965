"""Teach a code model to write secure code that still works, on one GPU."""
