"""``services watch``: what changes in a list of instances, by long polls on its index."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from econeura_daemon.cli.client import Client, client_options
from econeura_daemon.cli.exits import CommandError
from econeura_daemon.cli.follow import Connection
from econeura_daemon.cli.output import Column, Output, output_option
from econeura_daemon.cli.services import COLLECTION, STATUSES, address_of
from econeura_daemon.core.clock import SystemClock, format_instant

INDEX_HEADER = "X-Econeura-Index"
WAIT = 60
"""Seconds that the daemon is asked to wait for a change."""
_SILENCE = WAIT + 15.0
"""Seconds without a byte after which the daemon counts as dead."""

Picture = dict[str, dict[str, Any]]
"""Instances as the API shows them, by id."""

_UNWATCHED = {"status", "lastHeartbeat"}
"""Told apart, and of no interest."""


def _status(row: Mapping[str, Any]) -> str:
    before, now = row["previousStatus"], row["status"]
    if now is None:
        return f"was {before}"
    return f"{before} → {now}" if before not in {None, now} else str(now)


def _why(row: Mapping[str, Any]) -> str:
    reason: str = row["reason"]
    return reason if row["change"] != "changed" else f"{', '.join(row['fields'])}; {reason}"


_LINE: list[Column] = [
    ("time", lambda row: row["time"]),
    ("change", lambda row: row["change"]),
    ("id", lambda row: row["id"]),
    ("type", lambda row: row["type"]),
    ("address", lambda row: address_of(row["service"])),
    ("status", _status),
    ("reason", _why),
]


@click.command
@click.option("--type", "type_", help="Only instances of this service.")
@click.option(
    "--status", type=click.Choice(STATUSES), help="Only those that come into this status, or leave it."
)
@click.option("--tag", help="Only with this tag.")
@click.option("--count", type=click.IntRange(1), help="Leave after so many lines.")
@client_options
@output_option
def watch(
    *,
    client: Client,
    output: Output,
    type_: str | None,
    status: str | None,
    tag: str | None,
    count: int | None,
) -> None:
    """Follow who comes, goes and changes, until Ctrl-C.

    First come those that are there (present), then what changes: added, removed, status, changed (with
    the names of the fields). A daemon that goes away is waited for, and what changed meanwhile is told then.
    What changes back before it can be told is not: `events tail --types 'service.*'` has every step.
    """
    clock = SystemClock()
    shown = 0
    before: Picture | None = None
    for picture in pictures(client, {"type": type_, "tag": tag}):
        for change in changes(before, picture):
            if status is not None and status not in {change["status"], change["previousStatus"]}:
                continue
            output.line({"time": format_instant(clock.now()), **change}, _LINE)
            shown += 1
            if shown == count:
                return
        before = picture


def pictures(client: Client, query: Mapping[str, Any]) -> Iterator[Picture]:
    """Yield the list of ``query`` whenever it may be another one, for ever.

    A daemon that never answered is a failure; one that answered once is waited for.
    """
    connection = Connection(client)
    index = None
    while True:
        asked = {**query, "index": index, "wait": None if index is None else f"{WAIT}s"}
        try:
            answer = client.fetch("GET", COLLECTION, query=asked, timeout=_SILENCE)
        except CommandError as error:
            connection.refused(error)
            continue
        connection.served()
        index = answer.headers.get(INDEX_HEADER)
        if index is None:
            raise client.stranger()
        yield {one["id"]: one for one in answer.data["items"]}


def changes(before: Picture | None, after: Picture) -> Iterator[dict[str, Any]]:
    """Yield what turned one picture into the next, by id; None: there was none, and all are ``present``."""
    old = before or {}
    for key in sorted(old.keys() | after.keys()):
        was, now = old.get(key), after.get(key)
        one = now or was
        assert one is not None, "it is in one of them"
        fields = [] if was is None or now is None else _differences(was, now)
        if was is None:
            change = "present" if before is None else "added"
        elif now is None:
            change = "removed"
        elif was["status"] != now["status"]:
            change = "status"
        elif fields:
            change = "changed"
        else:
            continue
        yield {
            "change": change,
            "id": key,
            "type": one["type"],
            "status": None if now is None else now["status"],
            "previousStatus": None if was is None else was["status"],
            "reason": one["statusReason"],
            "fields": fields,
            "service": one,
        }


def _differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [key for key in {**was, **now} if key not in _UNWATCHED and was.get(key) != now.get(key)]
