"""``services``: list, show, register, drain, deregister; ``watch`` stands in a module of its own."""

from collections.abc import Mapping
from typing import Any

import click

from econeura_daemon.cli.arguments import Duration, JsonSource, Names
from econeura_daemon.cli.client import Client, client_options, segment
from econeura_daemon.cli.lazy import Lazy, LazyGroup
from econeura_daemon.cli.output import Column, Output, output_option

COLLECTION = "/v1/services"
STATUSES = ("unknown", "healthy", "unhealthy", "draining")


def address_of(row: Mapping[str, Any]) -> str:
    """Return where an instance is, as in a URL."""
    host = f"[{row['host']}]" if ":" in row["host"] else row["host"]
    return f"{row['scheme']}://{host}:{row['port']}"


_SERVICES: list[Column] = [
    ("id", lambda row: row["id"]),
    ("type", lambda row: row["type"]),
    ("address", address_of),
    ("status", lambda row: f"{row['status']}, stale" if row.get("stale") else row["status"]),
    ("tags", lambda row: row["tags"]),
    ("reason", lambda row: row["statusReason"]),
]

_ENDPOINTS: list[Column] = [
    ("method", lambda row: row["method"]),
    ("endpoint", lambda row: row["endpoint"]),
    ("auth", lambda row: row["requiresAuth"]),
    ("description", lambda row: row["description"]),
]

_LAZY = {"watch": Lazy("econeura_daemon.cli.watch", "watch", "Follow who comes, goes and changes.")}


@click.group(cls=LazyGroup, lazy=_LAZY)
def services() -> None:
    """Who is there, how they are, and maintenance."""


@services.command("list")
@click.option("--type", "type_", help="Only instances of this service.")
@click.option("--status", type=click.Choice(STATUSES), help="Only in this status.")
@click.option("--tag", help="Only with this tag.")
@client_options
@output_option
def list_(*, client: Client, output: Output, type_: str | None, status: str | None, tag: str | None) -> None:
    """List instances, by id."""
    found = client.get(COLLECTION, {"type": type_, "status": status, "tag": tag})
    output.rows(found["items"], _SERVICES, empty="No services.")


@services.command
@click.argument("service", metavar="ID")
@client_options
@output_option
def show(*, client: Client, output: Output, service: str) -> None:
    """Show one instance, why it is in its status, its last probe, and what it offers."""
    found = client.get(f"{COLLECTION}/{segment(service)}")
    if not output.for_people:
        output.item(found)
        return
    endpoints = found.pop("endpoints")
    output.record(found)
    click.echo()
    output.rows(endpoints, _ENDPOINTS, empty="It says nothing of what it offers.")


@services.command
@click.argument("address", metavar="HOST:PORT")
@click.option("--type", "type_", required=True, help="The service that it is an instance of.")
@click.option("--id", "id_", help="An id of its own; the same one again replaces it. Made if not given.")
@click.option("--name", help="For people.")
@click.option("--scheme", help="http if not given.")
@click.option("--version", help="Of the service.")
@click.option("--tags", type=Names(), help="Tags: canary,zone-a")
@click.option("--metadata", type=JsonSource(), help="A JSON object.")
@click.option("--weight", type=click.IntRange(1), help="Its share of calls beside others; 100 if not given.")
@click.option("--ttl", type=Duration(), help="It renews its lease within this: 30s.")
@click.option("--check", metavar="PATH|tcp", help="Probe it: an HTTP path such as /health, or tcp.")
@click.option("--interval", type=Duration(), help="Between two probes.")
@click.option("--timeout", type=Duration(), help="Of one probe.")
@click.option("--deregister-after", type=Duration(), help="Remove it once unhealthy for so long.")
@click.option(
    "--endpoint", "endpoints", multiple=True, metavar="'METHOD PATH [DESCRIPTION]'", help="Repeatable."
)
@client_options
@output_option
def register(
    *,
    client: Client,
    output: Output,
    address: str,
    type_: str,
    id_: str | None,
    check: str | None,
    interval: int | None,
    timeout: int | None,
    endpoints: tuple[str, ...],
    ttl: int | None,
    deregister_after: int | None,
    **said: Any,
) -> None:
    """Register what listens at HOST:PORT, or replace the instance that has its id.

    With --ttl something must renew the lease, with PUT /v1/services/ID/heartbeat; the Python package
    econeura_daemon.registrant does. With --check, or neither, the daemon probes it.
    """
    host, port = _host_and_port(address)
    body = {
        "type": type_,
        "host": host,
        "port": port,
        "id": id_,
        **said,
        "ttlMs": ttl,
        "check": _check(check, interval, timeout),
        "deregisterAfterMs": deregister_after,
        "endpoints": [_endpoint(text) for text in endpoints] or None,
    }
    given = {key: value for key, value in body.items() if value is not None}
    answer = client.fetch("POST", COLLECTION, body=given)
    if answer.status == 200 and output.for_people:
        click.echo("It replaces the one that had its id.", err=True)
    output.row(answer.data, _SERVICES)


@services.command
@click.argument("service", metavar="ID")
@click.option("--off", is_flag=True, help="End it: the instance is in service again.")
@client_options
@output_option
def drain(*, client: Client, output: Output, service: str, off: bool) -> None:
    """Begin maintenance: the instance finishes what it began and gets nothing new."""
    output.row(
        client.call("DELETE" if off else "PUT", f"{COLLECTION}/{segment(service)}/drain"),
        _SERVICES,
    )


@services.command
@click.argument("service", metavar="ID")
@client_options
@output_option
def deregister(*, client: Client, output: Output, service: str) -> None:
    """Remove an instance for good."""
    removed = client.call("DELETE", f"{COLLECTION}/{segment(service)}")
    if output.for_people:
        click.echo(f"Deregistered {service}.")
    else:
        output.item(removed)


def _host_and_port(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""  # an IPv6 address, and nobody can tell where it ends
    if not (colon and host and port.isascii() and port.isdecimal() and len(port) <= 5):
        raise click.BadParameter(
            f"expected HOST:PORT or [IPv6]:PORT, got {address!r}", param_hint="HOST:PORT"
        )
    return host, int(port)


def _check(check: str | None, interval: int | None, timeout: int | None) -> dict[str, Any] | None:
    times = {"intervalMs": interval, "timeoutMs": timeout}
    if check is None:
        if interval is not None or timeout is not None:
            raise click.UsageError("--interval and --timeout are of a probe: give --check too")
        return None
    how = {"kind": "tcp"} if check == "tcp" else {"kind": "http", "path": check}
    return {**how, **{key: value for key, value in times.items() if value is not None}}


def _endpoint(text: str) -> dict[str, Any]:
    words = text.split(maxsplit=2)
    if len(words) < 2:
        raise click.BadParameter(
            f"expected a method and a path, such as 'GET /v1/orders', got {text!r}", param_hint="--endpoint"
        )
    keys = ("method", "endpoint", "description")[: len(words)]
    return dict(zip(keys, words, strict=True))
