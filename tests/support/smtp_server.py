"""A mail server that takes letters over a real socket, and answers as a test says."""

import base64
import socket
import threading
from contextlib import ExitStack, contextmanager, suppress


class MailHost:
    """What the server got; ``answers`` are its replies to commands by their first word, "." after the letter.

    An answer of None hangs up.
    """

    def __init__(self, listener, answers, tls, starttls):
        self.port = listener.getsockname()[1]
        self.letters = []
        self.envelopes = []
        self.logins = []
        self.arrived = threading.Event()
        self._listener = listener
        self._answers = answers
        self._tls = tls
        self._starttls = starttls

    def run(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with suppress(OSError), ExitStack() as sockets:
                sockets.enter_context(connection).settimeout(10)
                if self._tls is not None and not self._starttls:
                    connection = sockets.enter_context(self._tls.wrap_socket(connection, server_side=True))
                self._talk(connection, sockets)

    def _talk(self, connection, sockets):
        lines = connection.makefile("rb")
        connection.sendall(b"220 test ready\r\n")
        while line := lines.readline():
            word = line.split()[0].upper().decode()
            answer = self._answers.get(word, self._usual(word))
            if answer is None:
                return
            if word in {"MAIL", "RCPT"}:
                self.envelopes.append(line.strip().decode())
            if word == "AUTH":
                self.logins.append(base64.b64decode(line.split()[2]).split(b"\0")[1:])
            connection.sendall(answer + b"\r\n")
            if word == "STARTTLS" and answer.startswith(b"2"):
                connection = sockets.enter_context(self._tls.wrap_socket(connection, server_side=True))
                lines = connection.makefile("rb")
            if word == "QUIT":
                return
            if word == "DATA" and answer.startswith(b"3"):
                letter = b""
                while (line := lines.readline()) not in {b".\r\n", b""}:
                    letter += line.removeprefix(b".")
                if not line:
                    return
                self.letters.append(letter)
                self.arrived.set()
                answer = self._answers.get(".", b"250 taken")
                if answer is None:
                    return
                if callable(answer):
                    answer = answer()
                connection.sendall(answer + b"\r\n")

    def _usual(self, word):
        if word == "EHLO":
            offers = [b"250-test", b"250-SIZE 50000000"]
            if self._starttls:
                offers.append(b"250-STARTTLS")
            return b"\r\n".join([*offers, b"250 AUTH PLAIN"])
        return {"DATA": b"354 go on", "QUIT": b"221 bye", "AUTH": b"235 welcome", "STARTTLS": b"220 go"}.get(
            word, b"250 ok"
        )


@contextmanager
def mail_host(answers=None, *, tls=None, starttls=False):
    """Serve for the length of the block; ``tls`` is the server's context."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = MailHost(listener, answers or {}, tls, starttls)
        thread = threading.Thread(target=host.run)
        thread.start()
        try:
            yield host
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
