"""Run code that a model wrote, and tell honestly whether it works.

`Sandbox` is the contract; `Limits` bounds one run; `SandboxError` is our failure, never the code's.

Where the verdict is made no line of the code ever runs, answers never enter its process or files,
and an exit status proves nothing. What else holds depends on the machine; a self-test at the start
attacks the trainer through the real path and believes only what it saw:

    tier                    strong             confined                  limits-only
    found as                namespaces and     Landlock (Linux 5.13) neither, or no
                            system-call        or bubblewrap, and        system-call filter
                            filter             system-call filter
    typical machine         workstation,       Docker, Colab, Ubuntu     old kernel
                            root or user       24.04 as a plain user
    trainer's files         hidden             refused                   open to the jailed user
    environment, memory     hidden             refused                   environment scrubbed only
    network                 none at all        refused                   open
    signals, ptrace,        no process seen    refused                   open, unless root drops
    limits, priorities                                                   to a throw-away user
    time, output            bounded            bounded                   bounded
    memory                  per process, and   the same                  the same
                            sampled in total,
                            exact where a
                            cgroup is delegated
    processes               bounded            bounded                   bounded, but not as root
                                                                         without a cgroup
    signals to children     work               refused before Linux 6.12 work
    disk                    64 MB in all       64 MB in all, sampled     the same, in its folder
    left afterwards         nothing            nothing                   no process; files outside
                                                                         its folder stay
    chmod by path           works              works as root, else       works
                                               refused
    multiprocessing locks   work               refused (no /dev/shm)     work

Not promised anywhere: safety from kernel bugs and side channels, exact memory totals between two
samples (20 ms) and the kernel's own memory behind pipes and sockets without a cgroup, and that
weak tests measure skill. Tests of kind `pytest` share an interpreter with the code and can be
forged by a determined program. For hostile tenants use a virtual machine.
"""

from seccoderx_lite.core.errors import SandboxError
from seccoderx_lite.sandbox.limits import Limits
from seccoderx_lite.sandbox.sandbox import Sandbox

__all__ = ["Limits", "Sandbox", "SandboxError"]
