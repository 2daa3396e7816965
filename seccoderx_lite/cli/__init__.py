"""The commands, thin: options in, one call of a stage or a room below, results printed.

Uses every other room; no room imports this one. A function that a notebook could want does not
belong here.
"""
