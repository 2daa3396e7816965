"""A local OpenAI-compatible server that plays the generator, well or badly behaved.

What it answers is a function of the prompt alone. What goes wrong is a function of the prompt and
of how often it was asked: every fault of `FAULTS` hits some requests, on the first attempts, and
then the good answer comes. Faults of content come once, since a reply is repaired once.
"""

import contextlib
import hashlib
import json
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = (
    "429",
    "429-date",
    "500",
    "timeout",
    "closed",
    "half-closed",
    "no-json-body",
    "empty",
    "no-choices",
    "error-in-200",
    "drip",
    "invalid-json",
    "wrong-schema",
    "prose",
    "fenced",
    "thought",
)
CONTENT_FAULTS = ("invalid-json", "wrong-schema", "prose")
LANGUAGES = ("python", "javascript", "c", "cpp", "java")


def _words(text: str) -> list[str]:
    return text.split()


_OBJECTS = _words("""
    invoice parcel ticket recipe meter voucher sensor photo ledger badge roster flight cargo
    vaccine prescription playlist coupon blueprint timetable crate seedling lens violin tyre
    permit auction brochure deposit mortgage antenna reservoir turbine greenhouse kiln loom
    barrel canoe lighthouse quarry sawmill trawler orchard beehive telescope caravan mosaic
    lantern anvil compass saddle tapestry aquarium glacier windmill locomotive carousel
    printing-press foundry observatory vineyard dairy bakery tannery pottery archive theatre
    museum stadium hangar depot nursery clinic academy embassy chapel
""")
_VERBS = _words("""
    parse merge sort store index export import render schedule archive convert split count
    match print load query update delete upload resize rotate compress expand format encode
    decode route filter group rank sample replay mirror stream batch publish forward collect
    summarise tabulate transcribe annotate reconcile
""")
_SHAPES = _words("""
    line row record page file folder table column list queue batch message field header entry
    report form sheet label note summary catalogue register journal calendar map chart profile
    bundle snapshot
""")


def answer(prompt: str) -> dict:
    """Return what a good generator answers: varied, and now and then a task to be dropped."""
    draw = random.Random(hashlib.sha256(prompt.encode()).digest())
    if prompt.startswith("# Application settings"):
        count = int(re.search(r"Think of (\d+)", prompt)[1])
        return {"scenarios": [{"scenario": _sentence(draw)} for _ in range(count)]}
    language = re.search(r"to be solved in (\w+)", prompt)[1]
    if prompt.startswith("# Quality"):
        return {"mark": draw.choice((1, 3, 4, 5, 5)), "reason": "it reads so"}
    text = " ".join(_sentence(draw) for _ in range(3))
    turn = draw.random()
    if turn < 0.02:
        text += " Mind CWE-89."
    elif turn < 0.04:
        text += " The code may be vulnerable."
    elif turn < 0.05:
        text = "Write a program that reads a line and prints it backwards, then prints its length."
    elif turn < 0.06:
        language = draw.choice(("cobol", *LANGUAGES))
    return {
        "design_plan": "as asked",
        "coding_task_prompt": f"Write {language} code. {text}",
        "implementation_language": language,
    }


def _sentence(draw: random.Random) -> str:
    words = [draw.choice(part) for part in (_VERBS, _OBJECTS, _SHAPES, _OBJECTS, _VERBS, _SHAPES)]
    return "{} the {} {} of each {}, then {} one {} a day.".format(*words).capitalize()


class Generator(ThreadingHTTPServer):
    """The server; counts what was delivered for each prompt."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, fault_share: float, hang_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fault_share, self.hang_s = fault_share, hang_s
        self.asked: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.bodies: list[dict] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def fault_for(self, prompt: str) -> str | None:
        """Return what goes wrong this time; None for the good answer."""
        with self.lock:
            self.asked[prompt] += 1
            attempt = self.asked[prompt]
        draw = random.Random(hashlib.sha256(b"faults" + prompt.encode()).digest())
        kinds = []
        if "An earlier reply" in prompt:  # a reply is repaired once
            kinds = [kind for kind in FAULTS if kind not in CONTENT_FAULTS]
        elif draw.random() < self.fault_share:
            kinds = list(FAULTS)
        if not kinds or draw.random() >= 0.9:
            return None
        planned = [draw.choice(kinds) for _ in range(draw.choice((1, 1, 2)))]
        cut = next((n + 1 for n, kind in enumerate(planned) if kind in CONTENT_FAULTS), 9)
        fault = planned[attempt - 1] if attempt <= min(len(planned), cut) else None
        if fault:
            with self.lock:
                self.faults[fault] += 1
        return fault

    def handle_error(self, request, client_address) -> None:
        """Say nothing: clients are killed and hang up on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Generator

    def log_message(self, *args) -> None: ...

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies = [*self.server.bodies[-9:], body]
        prompt = body["messages"][-1]["content"]
        fault = self.server.fault_for(prompt)
        if fault == "429":
            return self._send(429, "slow down", {"Retry-After": "0.02"})
        if fault == "429-date":
            return self._send(429, "later", {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})
        if fault == "500":
            return self._send(500, "oops")
        if fault == "timeout":
            time.sleep(self.server.hang_s)
            self.close_connection = True
            return None
        if fault == "closed":
            return self._hang_up()
        if fault == "no-json-body":
            return self._send(200, "<html>gateway</html>")
        if fault == "no-choices":
            return self._send(200, json.dumps({"choices": []}))
        if fault == "error-in-200":
            return self._send(200, json.dumps({"error": {"code": 429, "message": "busy"}}))
        if fault == "drip":
            return self._drip()
        self._deliver(prompt, fault)
        return None

    def _deliver(self, prompt: str, fault: str | None) -> None:
        good = json.dumps(answer(prompt.split("\n---\nAn earlier reply")[0].strip()))
        content = {
            "empty": "",
            "invalid-json": good[:-3],
            "wrong-schema": '{"result": 42}',
            "prose": "I would be glad to help with that!",
            "fenced": f"Sure:\n```json\n{good}\n```",
            "thought": f'<think>Like {{"scenarios": ["x"]}}?</think>\n{good}',
        }.get(fault or "", good)
        usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": len(content) // 4}
        reply = {"choices": [{"message": {"content": content}}], "usage": usage}
        if fault == "half-closed":
            self.send_response(200)
            self.send_header("Content-Length", str(len(json.dumps(reply))))
            self.end_headers()
            self.wfile.write(json.dumps(reply).encode()[:20])
            return self._hang_up()
        if fault != "empty":
            with self.server.lock:
                self.server.delivered[prompt] += 1
        return self._send(200, json.dumps(reply))

    def _send(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        data = text.encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _drip(self) -> None:
        """Send a reply a byte at a time, never to end within the time-out."""
        self.send_response(200)
        self.send_header("Content-Length", "9999")
        self.end_headers()
        until = time.monotonic() + self.server.hang_s
        with contextlib.suppress(OSError):  # the client has had enough
            while time.monotonic() < until:
                self.wfile.write(b" ")
                time.sleep(0.05)
        self.close_connection = True

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def serving(fault_share: float = 0.0, hang_s: float = 1.0) -> Iterator[Generator]:
    """Run a server in this process."""
    server = Generator(fault_share, hang_s)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
