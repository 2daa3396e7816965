"""The bounds of one run."""

from dataclasses import dataclass

from seccoderx_lite.core.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use; its files may take 64 MB in total, which is fixed."""

    timeout_s: float = 5.0
    """Wall time of the whole run. One test may use at most half of the time that is left.

    Time in which other work on the machine keeps the run from a core is added, up to twice this.
    """
    memory_mb: int = 512
    """Address space of each process, and resident memory of all processes together."""
    output_bytes: int = 65536
    """What the code may print; more ends the run."""
    processes: int = 32
    """Processes and threads that exist at the same time."""

    def __post_init__(self) -> None:
        faults = []
        if not 0 < self.timeout_s <= 3600:
            faults.append(f"timeout_s: must be above 0 and at most 3600 (got {self.timeout_s})")
        if self.memory_mb < 64:
            faults.append(f"memory_mb: must be at least 64 (got {self.memory_mb})")
        if self.output_bytes < 0:
            faults.append(f"output_bytes: must be at least 0 (got {self.output_bytes})")
        if self.processes < 1:
            faults.append(f"processes: must be at least 1 (got {self.processes})")
        if faults:
            raise RecipeError("the sandbox limits are not valid:\n  " + "\n  ".join(faults))
