"""Measurements: ESR and function of a policy, detection by a judge, and the suites to measure on.

Uses rewards, data, judge, run, models, recipe, sandbox and core. Must not import training or
stages: what is measured may not depend on how it was trained.
"""
