"""One file per stage of a run; `pipeline` runs them in the order of `stage_table`.

Uses every room but cli. A stage never imports another stage; what two share is in a room below.
"""
