"""The stages of a run; each is a function `run(recipe, folder, ...)` and none imports another."""
