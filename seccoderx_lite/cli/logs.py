"""Log lines of the command line: one handler, every line once, with a time stamp in a file."""

import logging
import sys


class _CurrentStandardError(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to `sys.stderr` as it is now: a live display replaces it to print above itself."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self):  # type: ignore[no-untyped-def]
        return sys.stderr


def _is_printed_elsewhere(record: logging.LogRecord) -> bool:
    """Whether a logger on the way to the root has its own handler, as huggingface_hub's does."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger and logger.parent:
        if any(type(handler) is not logging.NullHandler for handler in logger.handlers):
            return True
        logger = logger.parent
    return False


def set_up_logging(quiet: bool = False) -> None:
    """Print the log on standard error; `quiet` leaves out what is not a warning."""
    handler = _CurrentStandardError()
    handler.addFilter(lambda record: not _is_printed_elsewhere(record))
    form = "%(message)s" if sys.stderr.isatty() else "%(asctime)s %(message)s"
    handler.setFormatter(logging.Formatter(form, datefmt="%Y-%m-%d %H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("seccoderx_lite").setLevel(logging.WARNING if quiet else logging.INFO)
