"""Receivers of webhooks that do what a test tells them: raw TCP servers on the loopback interface."""

import ssl
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address, ip_network

import attrs
import httpx
import trio

from econeura_daemon.core.settings import WebhookSettings
from econeura_daemon.webhooks.model import Outgoing, Secret, Subscription

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
SETTINGS = WebhookSettings(allowed_networks=LOOPBACK)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@attrs.define
class Receiver:
    """A server that runs a function for each connection and counts them."""

    port: int
    connections: int = 0
    open: int = 0
    all_closed: trio.Event = attrs.field(factory=trio.Event)

    def url(self, host="127.0.0.1", scheme="http", path="/hook"):
        return f"{scheme}://{host}:{self.port}{path}"


@asynccontextmanager
async def open_receiver(serve, *, host="127.0.0.1", context=None):
    """Run ``await serve(stream)`` for each connection; with a ``context`` under TLS."""
    [listener] = await trio.open_tcp_listeners(0, host=host)
    receiver = Receiver(listener.socket.getsockname()[1])

    async def handle(stream):
        receiver.connections += 1
        receiver.open += 1
        receiver.all_closed = trio.Event()
        if context is not None:
            stream = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        try:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
                await serve(stream)
        finally:
            await trio.aclose_forcefully(stream)
            receiver.open -= 1
            if not receiver.open:
                receiver.all_closed.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, [listener])
        yield receiver
        nursery.cancel_scope.cancel()


async def read_request(stream):
    """Return one request's head, as lines, and body; None at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    length = int(next(line for line in lines if line.lower().startswith("content-length:")).split(":")[1])
    while len(body) < length:
        more = await stream.receive_some(65536)
        if not more:
            return None
        body += more
    return lines, body


def answering(answer, requests=None):
    """Return a server that keeps connections alive and gives the same answer to every request."""

    async def serve(stream):
        while (request := await read_request(stream)) is not None:
            if requests is not None:
                requests.append(request)
            await stream.send_all(answer)

    return serve


def saying(answer):
    """Return a server that reads one request, says ``answer``, whatever it is, and closes."""

    async def serve(stream):
        if await read_request(stream) is not None:
            await stream.send_all(answer)

    return serve


def subscription(url, **more):
    values = {
        "id": "sub_1",
        "patterns": ("*",),
        "secrets": (Secret(SECRET),),
        "active": True,
        "created_at": 0,
        "updated_at": 0,
    }
    return Subscription(url=url, **(values | more))


def outgoing(url, *, body=b'{"id":"evt_1"}', trace=None, **more):
    return Outgoing(
        delivery_id="del_1",
        event_id="evt_1",
        event_type="order.paid",
        body=body,
        trace=trace,
        subscription=url if isinstance(url, Subscription) else subscription(url, **more),
        number=1,
        max_attempts=10,
        created_at=0,
    )


def names(**addresses):
    """Return a resolver of these names (dots written ``__``) and no other; ``asked`` lists its calls."""
    known = {name.replace("__", "."): [ip_address(one) for one in found] for name, found in addresses.items()}

    async def resolve(host):
        await trio.lowlevel.checkpoint()
        resolve.asked.append(host)
        with suppress(ValueError):
            return [ip_address(host)]
        if host not in known:
            raise httpx.ConnectError(f"the name {host!r} cannot be resolved: test")
        return known[host]

    resolve.asked = []
    return resolve


class Kept:
    """A sink that keeps what comes."""

    def __init__(self):
        self.status, self.body = None, b""

    def begin(self, status, headers):
        self.status = status

    def add(self, part):
        self.body += part
        return True
