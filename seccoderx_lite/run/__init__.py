"""What a run leaves on disk and how it resumes: the run folder, its files, the environment.

Uses models (processes), recipe, sandbox and core. Must not know what a stage computes.
"""
