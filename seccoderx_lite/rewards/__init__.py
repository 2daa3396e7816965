"""What a completion earns: its parts, the two formulas, and the scorer that gathers the evidence.

`answers` takes a completion apart, `reward_formula` has the formulas, `scorer` asks judge and
sandbox. Uses data, judge, run, recipe, sandbox and core. Must not load a model: verdicts come from
the judge that is passed in.
"""
