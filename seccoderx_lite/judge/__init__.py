"""Code in, verdict out: the judge's prompt, modes and cache, and static analysers as baselines.

`judge` asks, `prompt` renders and parses, `loading` and `of_run` find the judge that is meant.
Uses run, models, recipe, sandbox and core. Must not see tasks' tests or references.
"""
