"""TLS of the tests' own: an authority, who trusts it, and a server whose records are in our hands."""

import ssl
from contextlib import asynccontextmanager

import httpx
import trustme

from econeura_daemon.wire import Target, open_transport
from tests.support.receivers import SETTINGS, Kept, names, open_receiver

AUTHORITY = trustme.CA()


def trusting():
    """Return a client's context that trusts nobody else."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def server_context(*hosts):
    """Return a server's context with a certificate for ``hosts``."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert(*hosts).configure_cert(context)
    return context


class Peer:
    """The server's side, its records in our hands."""

    def __init__(self, context):
        self.inward, self.outward = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.inward, self.outward, server_side=True)

    async def shake_hands(self, stream):
        """The last flight is left in ``outward``."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await stream.send_all(self.outward.read())
                self.inward.write(await stream.receive_some(65536))
            except ssl.SSLError:
                await stream.send_all(self.outward.read())
                raise
            else:
                return


HEAD = b"POST /hook HTTP/1.1\r\nHost: hook.example\r\nContent-Length: 11\r\n"
BODY = b"hello world"


@asynccontextmanager
async def calling(serve, context=None):
    """Yield ``await post()``, which returns status and body, the transport and the receiver."""
    async with (
        open_receiver(serve, context=context) as receiver,
        open_transport(SETTINGS, resolve=names(hook__example=["127.0.0.1"]), make_context=trusting) as over,
    ):
        target = Target.of(httpx.URL(receiver.url("hook.example", "https")))

        async def post():
            kept = Kept()
            await over.post(target, HEAD, BODY, kept)
            return kept.status, kept.body

        yield post, over, receiver
