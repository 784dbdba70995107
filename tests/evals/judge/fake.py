"""An endpoint in a thread, which speaks the chat protocol and misbehaves as it is told.

    with serve(lambda body: "[[A]]") as fake: ... fake.url, fake.requests
"""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Fake(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer, script):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.script, self.requests, self.headers = answer, list(script), [], []
        self.lock, self.now, self.most = threading.Lock(), 0, 0
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_):
        """A client that hung up is what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.requests.append(body)
            server.headers.append(dict(self.headers) | {"path": self.path})
            step = server.script.pop(0) if server.script else None
            server.now += 1
            server.most = max(server.most, server.now)
        try:
            status, headers, raw = step(self) if callable(step) else step or (200, {}, server.answer(body))
        finally:
            with server.lock:
                server.now -= 1
        if status is None:
            return self.connection.close()
        raw = json.dumps(reply(raw)).encode() if isinstance(raw, str) else raw
        raw = json.dumps(raw).encode() if isinstance(raw, dict) else raw
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_):
        pass


def reply(text, *, finish="stop", usage=(100, 20), **choice):
    return {"model": "judge-2024", "choices": [{"message": {"role": "assistant", "content": text},
                                                "finish_reason": finish, **choice}],
            **({"usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}} if usage else {})}


def continuation(text, *, finish="stop", usage=(10, 5), **choice):
    """A reply of a completion API."""
    return {"model": "base-2024", "choices": [{"text": text, "finish_reason": finish, **choice}],
            "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}}


@contextlib.contextmanager
def serve(answer=lambda body: "[[A]]", script=()):
    """script: for the first requests (status, headers, bytes), or a function of the handler that gives that."""
    fake = Fake(answer, script)
    thread = threading.Thread(target=fake.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.shutdown()
        fake.server_close()
        thread.join()
