"""What people read: the report page and its charts, result texts, model cards, scan reports.

Uses data, run, recipe and core; HTML comes from `templates/`. Must not compute a result: numbers
come from the run's files.
"""
