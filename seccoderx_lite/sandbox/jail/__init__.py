"""What runs below the trainer: starter, supervisor, tester and candidate driver.

These files run in a clean interpreter with nothing but the standard library. None of them imports
anything from outside this folder, and none ever holds a secret of the trainer.

    starter     one per worker, forks a supervisor for each job (`starter`)
    supervisor  one per job: jails, clock, output, cleaning up (`supervisor`, `exec_job`)
    tester      the test text and the proxies of the candidate (`tester`, `proxy`, `pytest_shim`)
    candidate   the code under test and a small driver (`candidate`)
"""
