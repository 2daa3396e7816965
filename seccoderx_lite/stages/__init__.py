"""One file per stage of a run, and `pipeline`, which runs them in order.

Uses every room but cli. A stage never imports another stage; what two share is in a room below.
"""
