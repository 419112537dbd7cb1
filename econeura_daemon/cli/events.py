"""``events``: send, list, tail."""

from typing import Any

import click

from econeura_daemon.cli.arguments import Instant, JsonSource, Names
from econeura_daemon.cli.client import Client, client_options
from econeura_daemon.cli.follow import cursor_before, follow
from econeura_daemon.cli.lazy import LazyGroup
from econeura_daemon.cli.output import Column, Output, output_option

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
@click.option("--since", type=Instant(), help="Begin with the first event since: RFC 3339, or 15m, 2h, 1d.")
@click.option("--count", type=click.IntRange(1), help="Leave after so many events.")
@client_options
@output_option
def tail(
    *,
    client: Client,
    output: Output,
    types: list[str] | None,
    after: int | None,
    since: str | None,
    count: int | None,
) -> None:
    """Follow events as they happen, until Ctrl-C.

    A connection that breaks is made again, and nothing is missed or shown twice.
    """
    if since is not None and after is not None:
        raise click.UsageError("--after and --since are two beginnings: give one of them")
    begin = after if since is None else cursor_before(client, since)
    for seen, event in enumerate(follow(client, types, begin), 1):
        output.line(event, _COLUMNS)
        if seen == count:
            return
