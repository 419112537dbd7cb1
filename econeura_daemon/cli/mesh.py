"""``mesh``: how services are called, the last calls, and faults."""

from collections.abc import Mapping
from typing import Any

import click

from econeura_daemon.cli.arguments import Duration
from econeura_daemon.cli.client import Client, client_options
from econeura_daemon.cli.output import Column, Output, output_option


def _breaker(row: Mapping[str, Any]) -> str:
    found = row["breaker"]
    if found["state"] == "closed":
        return "closed"
    until = f", until {found['until']}" if found["until"] else ""
    return f"{found['state']}{until}: {found['reason']}"


def _ejected(row: Mapping[str, Any]) -> str:
    return f"until {row['ejectedUntil']}: {row['ejectionReason']}" if row["ejectedUntil"] else ""


def _of_service(name: str) -> Column:
    return name, lambda row: row["totals"][name]


_SERVICES: list[Column] = [
    ("type", lambda row: row["type"]),
    ("instances", lambda row: len(row["instances"])),
    ("in flight", lambda row: row["inFlight"]),
    ("queued", lambda row: row["queued"]),
    *(_of_service(name) for name in ("requests", "failures", "retries", "refusals")),
    ("breaker", _breaker),
    ("panic", lambda row: "panic" if row["panic"] else ""),
    ("faults", lambda row: "; ".join(map(_deed, row["faults"]))),
]


def _deed(fault: Mapping[str, Any]) -> str:
    delay = f"{fault['delayMs']} ms" if fault["delayMs"] else ""
    then = "dropped" if fault["drop"] else str(fault["abortStatus"] or "")
    whom = f" of {fault['serviceId']}" if fault["serviceId"] else ""
    return f"{fault['percent']:g} %{whom}: {', then '.join(filter(None, (delay, then))) or 'none'}"


_INSTANCES: list[Column] = [
    ("id", lambda row: row["id"]),
    ("status", lambda row: row["status"]),
    ("weight", lambda row: row["weight"]),
    ("in flight", lambda row: f"{row['inFlight']}/{row['limit']}"),
    ("latency", lambda row: f"{row['latencyMs']:.1f} ms"),
    ("breaker", _breaker),
    ("ejected", _ejected),
]


def _attempts(row: Mapping[str, Any]) -> str:
    return ", then ".join(f"{made['serviceId']}: {made['outcome']}" for made in row["attempts"])


_CALLS: list[Column] = [
    ("started", lambda row: row["startedAt"]),
    ("type", lambda row: row["type"]),
    ("request", lambda row: f"{row['method']} {row['path']}"),
    ("result", lambda row: row["status"] if row["problem"] is None else row["problem"]),
    ("took", lambda row: f"{row['durationMs']:.1f} ms"),
    ("attempts", _attempts),
    ("id", lambda row: row["id"]),
]


@click.group()
def mesh() -> None:
    """How services are called, the last calls, and faults for tests."""


@mesh.command
@click.argument("type_", metavar="[TYPE]", required=False)
@client_options
@output_option
def show(*, client: Client, output: Output, type_: str | None) -> None:
    """Show every service and its calls so far, or one with its instances."""
    items = client.get("/v1/mesh", {"type": type_})["items"]
    if type_ is None or not output.for_people:
        output.rows(items, _SERVICES, empty="No services that speak HTTP.")
        return
    output.rows(items, _SERVICES, empty=f"No instance of {type_} is registered that speaks HTTP.")
    for item in items:
        click.echo()
        output.rows(item["instances"], _INSTANCES, empty="No instances.")


@mesh.command
@click.option("--type", "type_", help="Only calls of this service.")
@click.option("--status", help="Only with this HTTP status, or this slug of a problem: 503, circuit-open.")
@click.option("--slow", type=Duration(), help="Only what took at least so long: 500ms.")
@click.option("--limit", type=click.IntRange(1, 250), default=50, show_default=True, help="How many at most.")
@client_options
@output_option
def calls(
    *, client: Client, output: Output, type_: str | None, status: str | None, slow: int | None, limit: int
) -> None:
    """List the last calls with their attempts, the newest first."""
    query = {"type": type_, "status": status, "slowMs": slow, "limit": limit}
    output.rows(client.get("/v1/mesh/calls", query)["items"], _CALLS, empty="No calls.")


_FAULTS: list[Column] = [
    ("type", lambda row: row["type"]),
    ("instance", lambda row: row["serviceId"] or "all"),
    ("percent", lambda row: f"{row['percent']:g} %"),
    ("delay", lambda row: f"{row['delayMs']} ms"),
    ("then", lambda row: "dropped" if row["drop"] else row["abortStatus"] or "called"),
    ("until", lambda row: "the configuration is changed" if row["static"] else row["until"]),
]


@mesh.command
@click.argument("type_", metavar="[TYPE]", required=False)
@click.option("--instance", help="Only calls to this instance of TYPE.")
@click.option("--percent", type=click.FloatRange(0, 100), help="Of the attempts; 100 if not given.")
@click.option("--delay", type=Duration(), help="Delay them: 500ms.")
@click.option(
    "--abort", type=click.IntRange(200, 599), help="Answer with this status in place of the instance."
)
@click.option("--drop", is_flag=True, help="Lose the connection before an answer.")
@click.option("--for", "for_", type=Duration(), help="Ends after so long: 5m; 1m if not given, at most 1h.")
@click.option("--clear", is_flag=True, help="End the faults of TYPE, or all.")
@client_options
@output_option
def faults(
    *,
    client: Client,
    output: Output,
    type_: str | None,
    instance: str | None,
    percent: float | None,
    delay: int | None,
    abort: int | None,
    drop: bool,
    for_: int | None,
    clear: bool,
) -> None:
    """List injected faults; inject one into calls of TYPE with --delay, --abort or --drop; end them with --clear."""
    path = "/v1/mesh/faults"
    if clear:
        ended = client.call("DELETE", path, query={"type": type_})
        if output.for_people:
            kept = f"; {ended['kept']} stand in the configuration" if ended["kept"] else ""
            click.echo(f"Ended {ended['removed']} faults{kept}.")
        else:
            output.item(ended)
        return
    if delay is None and abort is None and not drop:
        output.rows(client.get(path)["items"], _FAULTS, empty="No faults are injected.")
        return
    if type_ is None:
        raise click.UsageError("say which TYPE the fault is for")
    body = {
        "type": type_,
        "serviceId": instance,
        "percent": percent,
        "delayMs": delay,
        "abortStatus": abort,
        "drop": drop,
        "expiresInMs": for_,
    }
    fault = client.call("PUT", path, body={name: value for name, value in body.items() if value is not None})
    output.rows([fault], _FAULTS, empty="")
