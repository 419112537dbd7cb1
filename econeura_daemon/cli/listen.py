"""``webhooks listen``: a receiver at work, which can subscribe itself."""

import signal
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from random import SystemRandom
from secrets import token_bytes
from typing import Any

import attrs
import click
import trio

from econeura_daemon.cli.arguments import Names, SecretSource
from econeura_daemon.cli.client import Client, client_options, segment
from econeura_daemon.cli.exits import CommandError, Exit
from econeura_daemon.cli.output import Column, Output, output_option
from econeura_daemon.cli.receiver import Arrival, Receiver, receive
from econeura_daemon.core.clock import SystemClock
from econeura_daemon.webhooks.signing import new_secret, secret_flaw

_COLLECTION = "/v1/webhooks/subscriptions"
_LEAVING_SECONDS = 10


def _verdict(row: Mapping[str, Any]) -> str:
    if row["verified"]:
        return "verified"
    return str(row["why"]) if row["verified"] is None else f"NOT VERIFIED: {row['why']}"


_LINE: list[Column] = [
    ("time", lambda row: row["at"]),
    ("answer", lambda row: row["status"]),
    ("verified", _verdict),
    ("event", lambda row: row["event"]),
    ("id", lambda row: row["id"]),
    ("attempt", lambda row: f"attempt {row['attempt']}" + (", duplicate" if row["duplicate"] else "")),
    ("body", lambda row: row["body"]),
]


@attrs.frozen(kw_only=True)
class Listening:
    """What was asked for on the command line."""

    client: Client
    output: Output
    host: str
    port: int
    events: list[str] | None
    receiver: Receiver
    count: int | None


@click.command
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port; any free one if not given.")
@click.option("--subscribe", "events", type=Names(), help="Subscribe to these types; unsubscribe on leaving.")
@click.option("--secret", type=SecretSource(), help="Verify with this; made if --subscribe is given.")
@click.option("--fail-rate", type=click.FloatRange(0, 1), default=0, help="The share to answer with 500.")
@click.option("--delay", type=click.IntRange(0), default=0, help="Milliseconds to wait before answering.")
@click.option("--count", type=click.IntRange(1), help="Leave after so many arrivals.")
@client_options
@output_option
def listen(
    *,
    client: Client,
    output: Output,
    host: str,
    port: int,
    events: list[str] | None,
    secret: str | None,
    fail_rate: float,
    delay: int,
    count: int | None,
) -> int:
    """Receive webhooks, verify their signatures and print what arrives, until Ctrl-C.

    With --subscribe it makes a subscription for itself, and deletes it on leaving. What is not signed with
    the secret is answered 401. A daemon calls loopback addresses only if webhooks.allowed_networks lets it.
    """
    flaw = None if secret is None else secret_flaw(secret)
    if flaw is not None:
        raise click.BadParameter(flaw, param_hint="--secret")
    if secret is None and events is not None:
        secret = new_secret(token_bytes)
    receiver = Receiver(
        () if secret is None else (secret,),
        SystemClock(),
        SystemRandom(),
        fail_rate=fail_rate,
        delay=delay / 1000,
    )
    listening = Listening(
        client=client, output=output, host=host, port=port, events=events, receiver=receiver, count=count
    )
    return trio.run(_until_told, listening)


async def _until_told(listening: Listening) -> int:
    """Listen until a signal comes, or the count is reached; return the exit code."""
    code = Exit.DONE
    failure: BaseException | None = None
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        try:
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    nonlocal code
                    async for _ in signals:
                        code = Exit.INTERRUPTED
                        nursery.cancel_scope.cancel()

                nursery.start_soon(watch)
                await run_receiver(listening)
                nursery.cancel_scope.cancel()
        except* CommandError as group:
            failure = _first(group)
    if failure is not None:  # raised within except*, Python 3.11.0 to 3.11.3 would wrap it in a group
        raise failure
    return code


def _first(error: BaseException) -> BaseException:
    """Return the first error of nested groups."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


async def run_receiver(listening: Listening) -> None:
    """Receive until the count is reached."""
    enough = trio.Event()
    arrivals = 0

    def arrived(arrival: Arrival) -> None:
        nonlocal arrivals
        arrivals += 1
        if listening.count is None or arrivals <= listening.count:
            listening.output.line(arrival.to_json(), _LINE)
        if arrivals == listening.count:
            enough.set()

    try:
        listeners = await trio.open_tcp_listeners(listening.port, host=listening.host)
    except OSError as error:
        where = f"{listening.host} port {listening.port}"
        raise CommandError(Exit.FAILED, f"cannot listen at {where}: {error.strerror or error}") from None
    async with trio.open_nursery() as nursery:
        serve = partial(receive, receiver=listening.receiver, arrived=arrived)
        await nursery.start(partial(trio.serve_listeners, serve, listeners))
        url = _url(listening.host, listeners[0])
        async with _subscribed(listening, url) as subscription:
            told = "" if subscription is None else f", subscribed as {subscription}"
            click.echo(f"Listening at {url}{told}; Ctrl-C to leave.", err=True)
            await enough.wait()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _subscribed(listening: Listening, url: str) -> AsyncGenerator[str | None]:
    """Hold a subscription of the receiver's own for the length of the block, if one was asked for."""
    if listening.events is None:
        yield None
        return
    body = {
        "url": url,
        "events": listening.events,
        "secret": listening.receiver.secrets[0],
        "description": "econeura-daemon webhooks listen",
    }
    # Not abandoned when a signal comes: a subscription that was made must be known, to be deleted.
    created = await trio.to_thread.run_sync(partial(listening.client.call, "POST", _COLLECTION, body=body))
    try:
        yield created["id"]
    finally:
        with trio.move_on_after(_LEAVING_SECONDS, shield=True):
            await _delete(listening.client, created["id"])


async def _delete(client: Client, subscription: str) -> None:
    try:
        delete = partial(client.call, "DELETE", f"{_COLLECTION}/{segment(subscription)}")
        await trio.to_thread.run_sync(delete, abandon_on_cancel=True)
    except CommandError as error:
        click.echo(f"The subscription {subscription} stays: {error.format_message()}", err=True)


def _url(host: str, listener: trio.SocketListener) -> str:
    port = listener.socket.getsockname()[1]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
