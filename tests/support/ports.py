"""Ports of loopback that nobody has: to be listened on in a moment, or to be refused at."""

import secrets
import socket

LOWEST = 10_000
BEYOND = 32_768
"""Here Linux begins to give ports to whoever asks for any (ip_local_port_range), other tests at the same time too."""


def free_port() -> int:
    """Return a port that nobody listens on, and that nobody comes by unasked."""
    while True:
        port = LOWEST + secrets.randbelow(BEYOND - LOWEST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
