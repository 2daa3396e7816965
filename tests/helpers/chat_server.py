"""A mock of an OpenAI-compatible server, on a local port."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def server(reply, pages=()) -> Iterator[tuple[str, list]]:
    """Run an HTTP server that answers with `reply(body)`; yield its URL and the requests it got.

    `pages` are the contents of paths, for GET, or for POST in the place of `reply`.
    """
    pages = dict(pages)
    requests: list = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append((self.path, dict(self.headers), body))
            page = pages.get(self.path)
            status, content = page(body) if page else reply(body)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self):
            page = pages.get(self.path)
            status, content = page(None) if page else (404, b"")
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/v1", requests
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def chat_reply(text):
    """Return status and body of a chat completion with this text."""
    return 200, json.dumps({"choices": [{"message": {"content": text}}]}).encode()
