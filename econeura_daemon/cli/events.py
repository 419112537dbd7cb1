"""``events``: send, list, tail."""

import json
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from typing import Any

import click

from econeura_daemon.cli.arguments import Instant, JsonSource, Names
from econeura_daemon.cli.client import Client, client_options, problem, sse
from econeura_daemon.cli.exits import CommandError
from econeura_daemon.cli.lazy import LazyGroup
from econeura_daemon.cli.output import Column, Output, output_option

SILENCE = 45.0
"""Seconds without a byte after which a stream counts as dead: the daemon sends a comment every 15 s."""
_BACKOFF = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before the attempts to come back to a stream; the last one for ever."""

_COLUMNS: list[Column] = [
    ("time", lambda row: row["timestamp"]),
    ("type", lambda row: row["type"]),
    ("id", lambda row: row["id"]),
    ("source", lambda row: row["source"]),
    ("data", lambda row: row["data"]),
]


@click.group(cls=LazyGroup)
def events() -> None:
    """Send, list and follow events."""


@events.command
@click.argument("type_", metavar="TYPE")
@click.option("--data", type=JsonSource(), default="{}", help="The event's data; {} if not given.")
@click.option("--source", help="Who says so; 'api' if not given.")
@click.option("--id", "id_", help="An id of your own: sending it again changes nothing.")
@client_options
@output_option
def send(
    *, client: Client, output: Output, type_: str, data: Any, source: str | None, id_: str | None
) -> None:
    """Publish an event of TYPE, such as order.paid."""
    body = {"type": type_, "data": data, "source": source, "id": id_}
    sent = client.call(
        "POST", "/v1/events", body={key: value for key, value in body.items() if value is not None}
    )
    output.row(
        sent,
        [
            ("id", lambda row: row["id"]),
            ("deliveries", lambda row: row["deliveries"]),
            ("duplicate", lambda row: row.get("duplicate", False)),
        ],
    )


@events.command("list")
@click.option("--type", "type_", help="A type, a pattern such as workers.*, or *.")
@click.option("--since", type=Instant(), help="Not older than: an RFC 3339 instant, or 15m, 2h, 1d.")
@click.option("--until", type=Instant(), help="Older than.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most.")
@client_options
@output_option
def list_(
    *, client: Client, output: Output, type_: str | None, since: str | None, until: str | None, limit: int
) -> None:
    """List events, newest first."""
    found = client.page("/v1/events", {"type": type_, "since": since, "until": until}, limit)
    output.rows(found, _COLUMNS, empty="No events.")


@events.command
@click.option("--types", type=Names(), help="Only these types or patterns: a.*,b")
@click.option("--after", type=click.IntRange(0), help="Begin behind this cursor; 0: with the oldest event.")
@click.option("--count", type=click.IntRange(1), help="Leave after so many events.")
@client_options
@output_option
def tail(
    *, client: Client, output: Output, types: list[str] | None, after: int | None, count: int | None
) -> None:
    """Follow events as they happen, until Ctrl-C.

    A connection that breaks is made again, and nothing is missed or shown twice.
    """
    seen = 0
    for name, event in follow(client, types, after):
        if name == "lagged":
            lost = "events that are no longer kept were missed" if event.get("lost") else "fell behind"
            click.echo(f"{lost}; going on from cursor {event.get('cursor')}", err=True)
            continue
        output.line(event, _COLUMNS)
        seen += 1
        if count is not None and seen >= count:
            return


def follow(
    client: Client, types: list[str] | None, after: int | None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (SSE event name, data) for ever; reconnect with the last cursor seen.

    A daemon that never answered is a failure; one that answered once is waited for.
    """
    cursor = after
    answered = False
    failures = 0
    while True:
        try:
            for key, name, data in _stream(client, types, cursor):
                answered = True
                if key is not None:
                    cursor = int(key)
                if data:
                    failures = 0
                    yield name, json.loads(data)
        except CommandError as error:
            if not (answered and error.passing):
                raise
        except (OSError, HTTPException):
            pass  # it was lost on the way
        time.sleep(_BACKOFF[min(failures, len(_BACKOFF) - 1)])
        failures += 1


def _stream(
    client: Client, types: list[str] | None, cursor: int | None
) -> Iterator[tuple[str | None, str, str]]:
    headers = {"Accept": "text/event-stream"}
    if cursor is not None:
        headers["Last-Event-ID"] = str(cursor)
    query = {"types": ",".join(types) if types else None}
    with client.open("GET", "/v1/stream", query=query, headers=headers, timeout=SILENCE) as response:
        if response.status != 200:
            raise problem(response.status, response.reason, response.read())
        yield None, "", ""
        yield from sse(response)
