"""Following: the live stream of events, and coming back to a daemon that went away meanwhile."""

import json
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from typing import Any

import click

from econeura_daemon.cli.client import Client, problem, sse
from econeura_daemon.cli.exits import CommandError

SILENCE = 45.0
"""Seconds without a byte after which a stream counts as dead: the daemon sends a comment every 15 s."""
_BACKOFF = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before the attempts to come back; the last one for ever."""
_STREAM = "/v1/stream"


class Connection:
    """Whether the daemon is there. One that answered once is waited for, and the user is told."""

    def __init__(self, client: Client) -> None:
        self._url = client.address.url
        self._known = False
        self._away = False
        self._failures = 0

    def answered(self) -> None:
        """Take note of an answer."""
        if self._away:
            click.echo(f"{self._url} answers again; going on where it broke off", err=True)
        self._known = True
        self._away = False

    def served(self) -> None:
        """Take note of an answer that was what was asked for: the next wait is the shortest one."""
        self.answered()
        self._failures = 0

    def refused(self, error: CommandError) -> None:
        """Wait before the next attempt; raise the error where none would help, or none ever succeeded."""
        if not (self._known and error.passing):
            raise error
        self.broke(error.message)

    def broke(self, reason: str) -> None:
        """Wait before the next attempt."""
        if not self._away:
            click.echo(f"{reason}; coming back", err=True)
        self._away = True
        time.sleep(_BACKOFF[min(self._failures, len(_BACKOFF) - 1)])
        self._failures += 1


def follow(client: Client, types: list[str] | None, after: int | None) -> Iterator[Mapping[str, Any]]:
    """Yield events for ever, behind the cursor ``after`` (None: what comes); come back with the last one seen."""
    connection = Connection(client)
    cursor = after
    while True:
        try:
            for key, data in _stream(client, types, cursor):
                connection.answered()
                if key is not None:
                    cursor = int(key)
                if data is None:
                    continue
                connection.served()
                if _is_word_of_lag(data):
                    lost = "events that are no longer kept were missed" if data["lost"] else "fell behind"
                    click.echo(f"{lost}; going on from cursor {data['cursor']}", err=True)
                else:
                    yield data
        except CommandError as error:
            connection.refused(error)
        else:
            connection.broke(f"{client.address.url} ended the stream")


def cursor_before(client: Client, since: str) -> int:
    """Return the cursor behind which events are not older than ``since`` (RFC 3339, UTC).

    The log is in the order of commits, and so in that of time, unless the wall clock was set back: it is searched by
    halves, one event at a time.
    """
    low, high = _opening(client, 0), _opening(client, None)
    while low < high:
        middle = (low + high) // 2
        cursor, event = next(
            (int(key), data)
            for key, data in _stream(client, None, middle)
            if key is not None and data is not None  # what has no cursor is not in the log
        )
        if cursor > high or event["timestamp"] >= since:
            high = middle
        else:
            low = cursor
    return low


def _opening(client: Client, after: int | None) -> int:
    """Return the cursor with which a stream begins."""
    return next(int(key) for key, _ in _stream(client, None, after) if key is not None)


def _is_word_of_lag(data: Mapping[str, Any]) -> bool:
    """Tell the daemon's own word from an event, which may be of any type."""
    return data.keys() == {"cursor", "lost"}


def _stream(client: Client, types: list[str] | None, after: int | None) -> Iterator[tuple[str | None, Any]]:
    """Yield (cursor, data), None for what is not there; the first thing says that the daemon answered."""
    query = {"types": ",".join(types) if types else None}
    headers = {"Accept": "text/event-stream"}
    if after is not None:
        headers["Last-Event-ID"] = str(after)
    with client.open("GET", _STREAM, query=query, headers=headers, timeout=SILENCE) as response:
        if response.status != 200:
            raise problem(response.status, response.reason, response.read())
        yield None, None
        try:
            for key, _name, data in sse(response):
                yield key, json.loads(data) if data else None
        except (OSError, HTTPException) as error:
            raise client.broken("GET", error) from None
