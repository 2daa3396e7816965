"""What runs below the trainer: starter, supervisor, tester and candidate.

These files run in a clean interpreter (`python -I -S`) as the package `jail`. They import nothing
from outside this folder but the standard library, and never hold a secret of the trainer.

    starter     one per worker, forks a supervisor for each job (`starter`)
    supervisor  one per job: jails, clock, output, clean-up (`supervisor`, `exec_job`)
    tester      the test text and the proxies of the candidate (`tester`, `proxy`, `pytest_shim`)
    candidate   the code under test and a small driver (`candidate`)
"""
