"""Try in a throw-away child process what cannot be undone in this one."""

import os
from collections.abc import Callable


def attempt(action: Callable[[], None]) -> str:
    """Run `action` in a child process; returns why it raised OSError, or an empty text."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                action()
                answer = ""
            except OSError as error:
                answer = str(error)
            # The full stop tells success from a child that was killed and wrote nothing.
            os.write(write_end, answer.encode()[:4000] + b".")
        finally:
            os._exit(0)
    os.close(write_end)
    os.waitpid(pid, 0)
    with open(read_end, "rb") as file:
        answer = file.read().decode()
    return answer[:-1] if answer.endswith(".") else "the probe exited without reporting a reason"
