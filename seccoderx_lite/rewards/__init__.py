"""What a completion earns: the components, the composite formula, the scorer that gathers them.

Uses data, judge, recipe, sandbox and core. Must not load a model: verdicts come from
the judge it is handed.
"""
