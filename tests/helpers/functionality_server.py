"""A chat server, run as a process of its own: judges function by a word in the code it is shown.

Speaks as much of OpenAI's chat protocol as a client can lean on, and nothing else: a request that
is not in it gets 400.
"""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPLIES = {
    "all_of_it": "It does what was asked. [[5]]",
    "most_of_it": "One case is missing, else I had said [[5]]. So: [[3.5]]",
    "too_much": "Splendid! [[11]]",
    "only_prose": "I like this code very much.",
    "empty_reply": "",
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = request.get("messages", [{}])[-1]
        if self.headers["Authorization"] != "Bearer k":
            return self.answer(401, {"error": {"message": "unknown key"}})
        known = self.path == "/v1/chat/completions" and request.get("model") == "scorer"
        if not known or message.get("role") != "user":
            return self.answer(400, {"error": {"message": "not in the protocol"}})
        if "server_fails" in message["content"]:
            return self.answer(500, {"error": {"message": "out of order"}})
        word = next((word for word in REPLIES if word in message["content"]), None)
        reply = {"role": "assistant", "content": REPLIES[word] if word else None}
        choice = {"index": 0, "message": reply, "finish_reason": "stop"}
        return self.answer(200, {"object": "chat.completion", "choices": [choice]})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
