"""The report is one complete, small page in which nothing that models wrote takes effect."""

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest

from seccoderx_lite.recipe.recipe import check_recipe
from seccoderx_lite.reporting import training_curves
from seccoderx_lite.reporting.charts import (
    Bar,
    Series,
    bar_chart,
    interval_chart,
    line_chart,
    stacked_chart,
)
from seccoderx_lite.reporting.page import safe
from seccoderx_lite.run.folder import RunFolder
from seccoderx_lite.stages import report

HOSTILE = (
    "</pre></details><script>document.title = 'taken'</script>"
    "<img src=x onerror=\"document.title='taken'\"><svg onload=alert(1)>"
    "\x00\x1b[31m\u202e\ud800 \"' &lt; {{constructor.constructor('x')()}}"
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "chrome-headless-shell")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)


def scores(esr: float) -> dict:
    group = {
        "functional": 1.0,
        "secure": esr,
        "esr": esr,
        "func_sec": esr,
        "n": 4,
        "unscored": 1,
        "interval_95": {"esr": [esr - 0.1, esr + 0.1]},
    }
    at_k = {"1": {"func@k": 1.0, "sec@k": esr, "func_sec@k": esr}}
    return {
        **group,
        "n_samples": 8,
        "at_k": at_k,
        "statuses": {"passed": 8},
        "per_cwe": {"CWE-89": group},
        "per_language": {"python": group, "c": group},
        "greedy": None,
    }


METRICS_EXTRA: dict = {}


def metrics(step: int) -> dict:
    return {
        "stage": "policy",
        "step": step,
        "reward": float(step),
        "kl": 0.1,
        "entropy": 0.2,
        "reward/functional": 0.5,
        "completion_length": 40.0,
        "judged_safe_share": 0.5,
        "functional_share": 0.9,
        "reward_hacking": 0.0,
        "stub_share": 0.0,
        "peak_memory_bytes": 2**30,
        "seconds": {"rollout": 1.0, "judge": 0.5, "step": 1.6},
        "unclear_verdicts": 0,
        "unscored": 0,
        "alarms": ["kl is <b>high</b>"],
        **METRICS_EXTRA,
    }


def answer(phase: str, number: int, completion: str) -> dict:
    secure = float(phase == "after")
    return {
        "phase": phase,
        "suite": "mine",
        "task": f"t{number}",
        "cwe": ["CWE-89"],
        "language": "python",
        "prompt": "Write it.",
        "reference": "safe(1)",
        "sample": 0,
        "completion": completion,
        "score": {"functional": 1.0, "secure": secure},
        "status": "passed",
        "output": "line 1: <b>bold</b>",
    }


def rollout(step: int, completion: str) -> dict:
    return {
        "stage": "policy",
        "step": step,
        "task": "t",
        "cwe": ["CWE-89"],
        "prompt": "Write.",
        "completion": completion,
        "reward": 1.0,
        "parts": {"gate": 1.0, "security": 0.0},
        "verdict": "safe",
        "reasoning": HOSTILE,
        "tests": "failed",
        "test_output": HOSTILE,
    }


@pytest.fixture
def make_run(tmp_path):
    def make(name="run", completions=(HOSTILE,), steps=10) -> RunFolder:
        document = {
            "name": "run",
            "model": {"base": "builtin:tiny"},
            "evaluate": {"suites": ["builtin:tiny"]},
        }
        with RunFolder.open(tmp_path / name, check_recipe(document, "test")) as folder:
            for step in range(1, steps + 1):
                folder.append_jsonl("metrics.jsonl", metrics(step))
            lines = [
                json.dumps(answer(phase, number, text))
                for number, text in enumerate(completions)
                for phase in ("before", "after")
            ]
            folder.write_text("answers.jsonl", "\n".join(lines) + "\n")
            lines = [json.dumps(rollout(1, text)) for text in completions]
            folder.write_text("completions.jsonl", "\n".join(lines) + "\n")
            change = {"mean": 0.5, "interval_95": [0.4, 0.6], "n": 4}
            folder.write_json(
                "evaluation.json",
                {
                    "before": {"mine": scores(0.2)},
                    "after": {"mine": scores(0.7)},
                    "difference": {
                        "mine": {
                            "esr": change,
                            "mcnemar": {"gained": 3, "lost": 0, "p": 0.25, "n": 4},
                        }
                    },
                },
            )
            return folder

    return make


def test_the_page_has_every_section_and_names_what_is_unscored(make_run):
    html = report.run(make_run()).read_text()
    for identifier in (
        "result",
        "measured",
        "weaknesses",
        "training",
        "hacking",
        "completions",
        "rollouts",
        "recipe",
    ):
        assert f'<h2 id="{identifier}">' in html
    assert "1 unscored" in html and "+0.500 [+0.400, +0.600]" in html and "p = 0.250" in html


def test_every_chart_is_well_formed_and_takes_its_colours_from_the_page(make_run):
    html = report.run(make_run()).read_text()
    charts = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert len(charts) > 10
    for chart in charts:
        ElementTree.fromstring(chart)
    assert all("#000" not in chart for chart in charts)


def test_nothing_a_model_wrote_becomes_markup(make_run):
    html = report.run(make_run()).read_text()
    assert "<script>document.title" not in html and "<img" not in html and "<b>bold" not in html
    assert html.count("<script>") == 1
    assert not re.search("[\x00\x1b\u202e]", html)


def test_the_page_asks_the_network_for_nothing(make_run):
    html = report.run(make_run()).read_text()
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", html)
    assert "default-src 'none'" in html


def test_a_huge_run_stays_small(make_run):
    texts = [f"```python\ndef f{n}():\n" + f"    x = {n}\n" * 300 + "```" for n in range(1500)]
    size = report.run(make_run(completions=texts, steps=2000)).stat().st_size
    assert size < 3_000_000


def test_a_run_without_any_results_still_has_a_page(tmp_path):
    document = {"name": "run", "model": {"base": "b"}, "evaluate": {"suites": ["builtin:tiny"]}}
    with RunFolder.open(tmp_path / "run", check_recipe(document, "test")) as folder:
        html = report.run(folder).read_text()
    assert '<h2 id="recipe">' in html and '<h2 id="training">' not in html
    assert "measured nothing on held-out tasks" in html and "No alarm rang" not in html


def test_runs_are_compared_with_intervals_from_the_first(make_run, tmp_path):
    runs = [make_run(name, completions=("x", "y", "z")) for name in ("a", "b")]
    file = report.write_comparison(runs, tmp_path / "page.html")
    html = file.read_text()
    assert "no change</span>: +0.000 [+0.000, +0.000], McNemar p = 1.000</small>" in html
    assert 'id="training"' in html
    assert "a: recipe run, builtin:tiny, seed 0" in html


def test_code_is_coloured_and_its_reference_and_failing_test_stand_beside_it(make_run):
    html = report.run(make_run(completions=("```python\nreturn 1  # why\n```",))).read_text()
    assert '<span class="key">return</span> <span class="num">1</span>' in html
    assert '<span class="com"># why</span>' in html
    assert "<h4>Tests</h4>" in html
    assert "<summary>reference</summary><pre>safe(<span" in html


def test_a_run_without_alarms_says_so(make_run, monkeypatch):
    monkeypatch.setitem(METRICS_EXTRA, "alarms", [])
    assert "No alarm rang." in report.run(make_run()).read_text()


def test_every_chart_names_its_axes(make_run):
    html = report.run(make_run()).read_text()
    lines = [svg for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL) if "(step " in svg]
    assert lines and all("optimiser step" in svg for svg in lines)
    assert "nats per token" in html


def test_every_bar_and_point_tells_its_value_and_interval(make_run):
    html = report.run(make_run()).read_text()
    assert "CWE-89 SQL Injection, after: 0.700 [0.600, 0.800]" in html


def test_a_model_measured_alone_has_no_legend_of_before_and_after():
    before, after = (Bar("mine", phase, 0.5, (0.4, 0.6)) for phase in ("before", "after"))
    assert "legend" not in interval_chart([before], "ESR")
    assert "legend" in interval_chart([before, after], "ESR")


def test_a_long_curve_is_smoothed_and_still_tells_what_was_measured():
    peak = [(float(step), 9.0 if step == 20 else 1.0) for step in range(40)]
    drawn = line_chart([Series("kl", peak)])
    assert "kl: 9 (step 20)" in drawn
    assert drawn.count("mark-line") == line_chart([Series("kl", peak[:9])]).count("mark-line") + 1


@pytest.mark.parametrize(
    "draw",
    [
        lambda: line_chart([]),
        lambda: line_chart([Series("one", [(1.0, 1.0)])]),
        lambda: stacked_chart([], " s"),
        lambda: bar_chart([], "ESR"),
    ],
)
def test_a_chart_of_nothing_is_nothing(draw):
    assert draw() == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a<b>&'\"", "a&lt;b&gt;&amp;&#x27;&quot;"),
        ("\u200b", "\u27e8200b\u27e9"),
        ("a\tb\n", "a\tb\n"),
    ],
)
def test_text_is_made_safe(text, shown):
    assert safe(text) == shown


@pytest.mark.skipif(BROWSER is None, reason=f"no browser: none of {', '.join(BROWSERS)} on PATH")
def test_in_a_real_browser_charts_stand_filters_work_and_hostile_text_does_nothing(
    make_run, tmp_path
):
    file = report.run(make_run(completions=(HOSTILE, "x" * 100_000)))
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--dump-dom",
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}",
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
    )
    assert "CONSOLE" not in done.stderr
    assert "<title>run</title>" in done.stdout
    assert re.search(r"2 of 2 shown", done.stdout)
    assert done.stdout.count("<svg") > 10 and "<img" not in done.stdout


def test_a_record_that_counts_no_rollouts_has_no_share_of_them():
    rows = [
        {"stage": "policy", "step": 0, "held_out_esr": 0.5},
        {"stage": "policy", "step": 1, "unscored": 2, "unclear_verdicts": 0},
    ]
    shares = [
        (row["unclear_share"], row["unscored_share"])
        for row in training_curves._with_shares(rows, [], 8)
    ]
    assert shares == [(None, None), (0.0, 0.25)]
