"""A server on a real socket that answers with what the test laid ready, for clients that block."""

import http.server
import json
import socketserver
import threading
from contextlib import contextmanager


class Server:
    """Answers with what the test laid ready, in turn, and keeps what was asked."""

    def __init__(self, answers):
        self.answers = list(answers)
        self.asked = []

    def next(self, request):
        self.asked.append(request)
        answer = self.answers.pop(0)
        return answer(request) if callable(answer) else answer


@contextmanager
def serving(*answers, unix=None):
    """Serve ``answers``: (status, JSON or bytes), bytes that are the whole answer, or a function
    of the request that returns one; yield (server, url)."""
    server = Server(answers)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = server.next((self.command, self.path, dict(self.headers), body and json.loads(body)))
            self.close_connection = True
            if isinstance(answer, bytes):
                self.wfile.write(answer)
                return
            status, content = answer
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(raw)

        do_POST = do_GET  # noqa: N815 - the standard library's name
        do_PUT = do_GET  # noqa: N815 - likewise
        do_DELETE = do_GET  # noqa: N815 - likewise

        def address_string(self):
            return "test"

        def log_message(self, *_):
            pass

    kind = socketserver.ThreadingUnixStreamServer if unix else http.server.ThreadingHTTPServer
    with kind(str(unix) if unix else ("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server, f"unix:{unix}" if unix else f"http://127.0.0.1:{listening.server_address[1]}"
        finally:
            listening.shutdown()
            thread.join()


def ok(data):
    return 200, {"success": True, "data": data, "timestamp": "2026-11-24T02:00:00.000Z"}


def refusal(status, title, detail, details=(), instance="req-1"):
    return status, {
        "type": "/problems/x",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": instance,
        "details": [{"path": path, "message": message} for path, message in details],
    }
