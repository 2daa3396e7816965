"""What people read: the report page and its charts, result texts, model cards, scan reports.

Uses data, judge, run and core. Must not compute a result: numbers come from the run's files.
"""
