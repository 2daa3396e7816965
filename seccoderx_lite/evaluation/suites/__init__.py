"""Suites: tasks that are measured together, the benchmarks they come from, how each is graded."""
