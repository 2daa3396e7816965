"""A server that gives the answers of a list, one after the other.

An answer is status and text, then perhaps headers, and seconds to wait after each character.
"""

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@pytest.fixture
def httpd():
    servers = []

    def start(answers) -> str:
        waiting = list(answers)

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args) -> None: ...

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                status, text, *more = waiting.pop(0)
                headers, pause = [*more, *({}, 0.0)[len(more) :]]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                for piece in text if pause else [text]:
                    with contextlib.suppress(OSError):  # the other side has had enough
                        self.wfile.write(piece.encode())
                        time.sleep(pause)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/v1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
