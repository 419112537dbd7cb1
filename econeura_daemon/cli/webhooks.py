"""``webhooks``: subscribe, list, show, deliveries, delete, listen."""

from typing import Any

import click

from econeura_daemon.cli.arguments import Instant, Names, SecretSource
from econeura_daemon.cli.client import Client, client_options, segment
from econeura_daemon.cli.lazy import Lazy, LazyGroup
from econeura_daemon.cli.output import Column, Output, output_option

COLLECTION = "/v1/webhooks/subscriptions"

_SUBSCRIPTIONS: list[Column] = [
    ("id", lambda row: row["id"]),
    ("active", lambda row: row["active"]),
    ("events", lambda row: row["events"]),
    ("url", lambda row: row["url"]),
    ("failures", lambda row: row["failureCount"]),
    ("last delivery", lambda row: row["lastDelivery"]),
]

_DELIVERIES: list[Column] = [
    ("id", lambda row: row["id"]),
    ("event", lambda row: row["eventType"]),
    ("status", lambda row: row["status"]),
    ("attempts", lambda row: f"{row['attempts']}/{row['maxAttempts']}"),
    ("answer", lambda row: row["responseCode"]),
    ("created", lambda row: row["createdAt"]),
    ("next", lambda row: row["nextAttemptAt"]),
    ("error", lambda row: row["lastError"]),
]

_ATTEMPTS: list[Column] = [
    ("attempt", lambda row: row["number"]),
    ("why", lambda row: row["trigger"]),
    ("status", lambda row: row["status"]),
    ("started", lambda row: row["startedAt"]),
    ("ms", lambda row: row["durationMs"]),
    ("answer", lambda row: row["statusCode"]),
    ("error", lambda row: row["error"]),
]


_LAZY = {
    "listen": Lazy("econeura_daemon.cli.listen", "listen", "Receive webhooks and print what arrives."),
}


@click.group(cls=LazyGroup, lazy=_LAZY)
def webhooks() -> None:
    """Subscriptions, their deliveries, and a receiver to try them with."""


@webhooks.command
@click.argument("url_", metavar="URL")
@click.option("--events", type=Names(), required=True, help="Types or patterns: orders.*,user.created, or *")
@click.option("--secret", type=SecretSource(), help="To sign with; made if not given. @FILE reads a file.")
@click.option("--description", help="For people.")
@click.option(
    "--header", "headers", multiple=True, metavar="NAME:VALUE", help="A header to send; repeatable."
)
@click.option("--inactive", is_flag=True, help="Make it paused.")
@client_options
@output_option
def subscribe(
    *,
    client: Client,
    output: Output,
    url_: str,
    events: list[str],
    secret: str | None,
    description: str | None,
    headers: tuple[str, ...],
    inactive: bool,
) -> None:
    """Send events of the given types to URL.

    The secret is shown here, and never again.
    """
    body: dict[str, Any] = {"url": url_, "events": events, "active": not inactive}
    given = {"secret": secret, "description": description, "headers": _headers(headers)}
    body |= {key: value for key, value in given.items() if value is not None}
    output.record(client.call("POST", COLLECTION, body=body))


@webhooks.command("list")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most.")
@client_options
@output_option
def list_(*, client: Client, output: Output, limit: int) -> None:
    """List subscriptions, newest first."""
    output.rows(client.page(COLLECTION, {}, limit), _SUBSCRIPTIONS, empty="No subscriptions.")


@webhooks.command
@click.argument("subscription")
@client_options
@output_option
def show(*, client: Client, output: Output, subscription: str) -> None:
    """Show one subscription."""
    output.record(client.get(f"{COLLECTION}/{segment(subscription)}"))


@webhooks.command
@click.argument("subscription")
@client_options
@output_option
def delete(*, client: Client, output: Output, subscription: str) -> None:
    """Delete a subscription; what it was still owed is canceled."""
    client.call("DELETE", f"{COLLECTION}/{segment(subscription)}")
    if output.for_people:
        click.echo(f"Deleted {subscription}.")
    else:
        output.item({"id": subscription, "deleted": True})


@webhooks.command
@click.argument("delivery", required=False)
@click.option("--status", help="pending, delivering, retrying, delivered, failed or canceled.")
@click.option("--subscription", help="Only of this subscription.")
@click.option("--event", help="Only of this event's id.")
@click.option("--event-type", help="Only of this event type.")
@click.option("--since", type=Instant(), help="Not older than: an RFC 3339 instant, or 15m, 2h, 1d.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most.")
@client_options
@output_option
def deliveries(
    *,
    client: Client,
    output: Output,
    delivery: str | None,
    status: str | None,
    subscription: str | None,
    event: str | None,
    event_type: str | None,
    since: str | None,
    limit: int,
) -> None:
    """List deliveries, newest first; with the id of one, show it with every attempt."""
    if delivery is not None:
        _show_delivery(client, output, delivery)
        return
    query = {
        "status": status,
        "subscriptionId": subscription,
        "eventId": event,
        "eventType": event_type,
        "since": since,
    }
    output.rows(client.page("/v1/webhooks/deliveries", query, limit), _DELIVERIES, empty="No deliveries.")


def _show_delivery(client: Client, output: Output, key: str) -> None:
    found = client.get(f"/v1/webhooks/deliveries/{segment(key)}")
    if not output.for_people:
        output.item(found)
        return
    attempts = found.pop("attemptLog")
    output.record(found)
    click.echo()
    output.rows(attempts, _ATTEMPTS, empty="No attempt yet.")


def _headers(given: tuple[str, ...]) -> dict[str, str] | None:
    headers = {}
    for text in given:
        name, colon, value = text.partition(":")
        if not colon:
            raise click.BadParameter(f"expected NAME:VALUE, got {text!r}", param_hint="--header")
        headers[name.strip()] = value.strip()
    return headers or None
