"""A small HTTP service in a process of its own, which registers itself with a daemon and beats.

    python small_service.py STATE_DIR JOURNAL REGISTRATION

SIGTERM: it deregisters and ends. SIGUSR1: well or ill, by turns. SIGUSR2: it registers anew, as its next edition.
It says ``ready`` once it listens to them. JOURNAL gets one line for each registration that was answered, with its
``registeredAt``. The daemon is found by ``STATE_DIR/ready.json`` each time, so it may be another process on another
port. Only the standard library: it starts quickly, and many of them run at once.
"""

import http.client
import http.server
import json
import os
import signal
import sys
import threading
import urllib.parse
from pathlib import Path

BEAT_SECONDS = 0.4


class Answerer(http.server.BaseHTTPRequestHandler):
    """Says whether the service is well."""

    is_well = True

    def do_GET(self):
        body = b"ok" if Answerer.is_well else b"db down"
        self.send_response(200 if Answerer.is_well else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # a probe was given up while the process stood still


class Registrant:
    """Keeps the service registered, whatever becomes of the daemon."""

    def __init__(self, state_dir, journal, registration):
        self.state_dir, self.journal, self.registration = state_dir, journal, registration
        self.parent = os.getppid()
        self.edition = 0
        self.wants_to_register = True
        self.leaving = False
        self.woken = threading.Event()

    def run(self):
        while not self.leaving:
            if os.getppid() != self.parent:
                os._exit(1)  # the test was killed
            try:
                self.turn()
            except (OSError, http.client.HTTPException, ValueError):
                self.wants_to_register = True  # whether the daemon heard it is not known
            self.woken.wait(BEAT_SECONDS)
            self.woken.clear()
        try:
            self.call("DELETE", f"/v1/services/{self.registration['id']}")
        finally:
            os._exit(0)

    def turn(self):
        if not self.wants_to_register:
            status, _ = self.call("PUT", f"/v1/services/{self.registration['id']}/heartbeat")
            self.wants_to_register = status == 404
        if self.wants_to_register:
            self.wants_to_register = False
            said = {**self.registration, "metadata": {"pid": os.getpid(), "edition": self.edition}}
            status, answer = self.call("POST", "/v1/services", said)
            if status not in {200, 201}:
                raise ValueError(answer)
            with self.journal.open("a") as journal:
                print(answer["data"]["registeredAt"], file=journal)

    def call(self, method, path, body=None):
        url = json.loads((self.state_dir / "ready.json").read_text())["urls"][0]
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=5)
        try:
            headers = {"Content-Type": "application/json"} if body else {}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def leave(self, _signal, _frame):
        self.leaving = True
        self.woken.set()

    def register_anew(self, _signal, _frame):
        self.edition += 1
        self.wants_to_register = True
        self.woken.set()


def turn_ill_or_well(_signal, _frame):
    Answerer.is_well = not Answerer.is_well


def main():
    state_dir, journal, registration = sys.argv[1:]
    server = Server(("127.0.0.1", 0), Answerer)
    said = {**json.loads(registration), "host": "127.0.0.1", "port": server.server_address[1]}
    registrant = Registrant(Path(state_dir), Path(journal), said)
    signal.signal(signal.SIGTERM, registrant.leave)
    signal.signal(signal.SIGUSR1, turn_ill_or_well)
    signal.signal(signal.SIGUSR2, registrant.register_anew)
    os.write(1, b"ready\n")
    threading.Thread(target=registrant.run, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
