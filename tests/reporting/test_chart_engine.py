"""Charts are drawn by another process: what ends it costs the charts alone."""

import subprocess
import sys

PROGRAM = """
import logging, resource
logging.basicConfig()
resource.setrlimit(resource.RLIMIT_AS, (SIZE, SIZE))
from seccoderx_lite.reporting.charts import Series, line_chart
for _ in range(2):
    chart = line_chart([Series("loss", [(1, 2.0), (2, 1.0)])], "nats per token")
print(chart)
"""


def drawn_within(limit: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.replace("SIZE", limit)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_a_chart_is_drawn():
    done = drawn_within("resource.RLIM_INFINITY")
    assert done.returncode == 0, done.stderr
    assert "<svg" in done.stdout


def test_without_address_space_there_are_no_charts_and_the_report_goes_on():
    done = drawn_within("4 << 30")
    assert done.returncode == 0, done.stderr
    assert "This chart could not be drawn." in done.stdout
    assert done.stderr.count("the report has no charts") == 1
