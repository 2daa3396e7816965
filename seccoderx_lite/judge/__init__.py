"""Code in, verdict out: the judge's prompt, modes and cache, and static analysers in its place.

Uses run, models, recipe, sandbox and core. Must not see tasks' tests or references.
"""
