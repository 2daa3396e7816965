"""The engine that draws charts, in a process of its own: its failure costs charts, not the report.

It embeds V8, which reserves tens of GB of address space at its start and ends the whole process
where that is limited (`ulimit -v`).
"""

import atexit
import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)

_PROGRAM = """
import json, sys
import vl_convert
for line in sys.stdin:
    print(json.dumps(vl_convert.vegalite_to_svg(json.loads(line))), flush=True)
"""


class ChartEngine:
    """Turns Vega-Lite specifications into SVG, with one process for all of them."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._has_failed = False

    def svg(self, spec: Mapping[str, Any]) -> str | None:
        """Return a chart as SVG; None if the engine cannot draw, which is logged once."""
        if self._has_failed:
            return None
        try:
            return self._ask(json.dumps(spec))
        except (OSError, ValueError) as error:
            self._has_failed = True
            logger.warning(
                "the report has no charts, because their engine ended (%s); it needs address "
                "space: see `ulimit -v`, then run seccoderx-lite report",
                error,
            )
            self.close()
            return None

    def _ask(self, line: str) -> str:
        process = self._process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise ChildProcessError(f"exit status {process.wait()}")
        return str(json.loads(answer))

    def _start(self) -> subprocess.Popen[str]:
        atexit.register(self.close)
        return subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a dump of V8
            text=True,
            encoding="utf-8",
        )

    def close(self) -> None:
        """End the process; may be called more than once."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for stream in (process.stdin, process.stdout):
            try:
                if stream:
                    stream.close()
            except OSError:  # what was still to be written to an engine that has ended
                pass
        process.wait()
