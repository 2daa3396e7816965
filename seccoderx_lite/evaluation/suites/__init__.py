"""Suites: tasks that are evaluated together, where they come from, and how each is graded."""
