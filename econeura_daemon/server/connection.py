"""What a server's parts share: the numbers that are kept, the drain, the ids."""

from random import Random
from typing import Protocol

import trio


class Level(Protocol):
    """A number that goes up and down."""

    def add(self, value: float) -> None:
        """Move it by ``value``."""
        ...


class HttpTelemetry(Protocol):
    """What is counted: `telemetry.Metrics`, seen from here."""

    @property
    def http_connections(self) -> Level:
        """Open connections."""
        ...

    @property
    def http_requests_in_flight(self) -> Level:
        """Requests being handled."""
        ...

    def request_done(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count one answered request; ``route`` is the application's pattern, None where none matched."""
        ...


class Drain:
    """Tells connections and streams that the server stops."""

    def __init__(self) -> None:
        self.begun = trio.Event()

    def begin(self) -> None:
        """Say so."""
        self.begun.set()


_VERSION_4 = 4 << 76 | 0b10 << 62
_RANDOM = (1 << 128) - 1 ^ 0xF << 76 ^ 0b11 << 62


def new_request_id(rng: Random) -> str:
    """Return the id of a request that brought none."""
    number = rng.getrandbits(128) & _RANDOM | _VERSION_4  # a UUID of version 4 (RFC 9562 section 5.4)
    return number.to_bytes(16, "big").hex()
