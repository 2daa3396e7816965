"""Our reward inside other trainers."""
