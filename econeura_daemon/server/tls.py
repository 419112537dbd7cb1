"""TLS on the TCP listeners: HTTP/1.1 by our own connection class, HTTP/2 by Hypercorn.

With ``http.tls_certificate`` set every TCP listener speaks TLS; unix sockets stay in the clear, their peers
are on this machine.
"""

import logging
import socket
import ssl

import trio

from econeura_daemon.server.context import Peer
from econeura_daemon.server.http1_channel import PlainChannel, TlsChannel
from econeura_daemon.server.http1_connection import serve_http1
from econeura_daemon.server.hypercorn_connection import serve_http2
from econeura_daemon.server.site import ServeConnection, Site

log = logging.getLogger(__name__)


def serving_tls(context: ssl.SSLContext) -> ServeConnection:
    """Return what serves connections that begin with a TLS handshake."""

    async def serve_connection(sock: socket.socket, peer: Peer, site: Site) -> None:
        send_timeout = site.settings.send_timeout_ms / 1000
        if peer.is_unix:
            await serve_http1(PlainChannel(sock, send_timeout), sock, peer, site)
            return
        stream = trio.SSLStream(
            trio.SocketStream(trio.socket.from_stdlib_socket(sock)),
            context,
            server_side=True,
            https_compatible=True,
        )
        try:
            # A handshake is the first that a client sends of a request's head.
            with trio.fail_after(site.settings.head_timeout_ms / 1000):
                await stream.do_handshake()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
            log.info(
                "a TLS handshake failed", extra={"peer": peer.name, "reason": str(error.__cause__ or error)}
            )
            return
        if stream.selected_alpn_protocol() == "h2":
            await serve_http2(stream, peer, site)
        else:
            await serve_http1(TlsChannel(stream, send_timeout), sock, peer, site)

    return serve_connection
