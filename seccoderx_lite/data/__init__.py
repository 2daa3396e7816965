"""Reads tasks and labelled code in every known layout, makes tasks from code, ships a tiny set.

Uses judge (its prompt), run, models, recipe, sandbox and core. Must not import a training library.
"""
