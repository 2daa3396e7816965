"""Reads tasks and labelled code in every known layout, makes tasks from code, ships a tiny set.

Uses run, models (only where a model writes tasks), recipe, sandbox and core. Must not import judge
or a training library.
"""
