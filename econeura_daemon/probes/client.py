"""One probe: a new connection, a whole deadline, and a value whatever happens.

The connections are the prober's own: internal networks may be probed that webhooks must not reach, so the two share
nothing. What carries no service stays refused: cloud metadata and link-local addresses, multicast, what is reserved.
A registrant chooses where a probe goes and reads what comes back.
"""

import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urljoin, urlsplit

import attrs
import httpx
import trio

from econeura_daemon._version import VERSION
from econeura_daemon.core.errors import EgressRefusedError
from econeura_daemon.core.instances import CheckKind
from econeura_daemon.probes.model import MAX_OUTPUT, Outcome, ProbeResult
from econeura_daemon.registry.model import Check, Registration
from econeura_daemon.wire import (
    AnswerCutError,
    AnswerTooLargeError,
    InternalGuard,
    header_lines,
    request_line,
)
from econeura_daemon.wire.connect import Connector, MakeContext
from econeura_daemon.wire.connection import Connection
from econeura_daemon.wire.exchange import Exchange, StaleError
from econeura_daemon.wire.resolver import Resolve, open_resolver

logger = logging.getLogger(__name__)

Probe = Callable[[Registration, Check], Awaitable[ProbeResult]]
"""Makes one probe. Nothing but `trio.Cancelled` is ever raised."""

USER_AGENT = f"econeura-daemon/{VERSION} (health probe)"
MAX_READ = 64 * 1024
"""Bytes of one answer, its head included."""
MAX_REDIRECTS = 3
"""That stay on the host, within the one deadline."""
_SHOWN = 60


@attrs.frozen
class _Answer:
    status: int
    location: str | None
    output: bytes


class ProbeClient:
    """Probes over HTTP and TCP."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    async def probe(self, said: Registration, check: Check) -> ProbeResult:
        """Make one probe and tell how it went; see `Probe`."""
        detail = f"no answer within {check.timeout_ms} ms"
        try:
            with trio.move_on_after(check.timeout_ms / 1000):
                return await (self._connect(said) if check.kind is CheckKind.TCP else self._get(said, check))
        except EgressRefusedError as refusal:
            detail = str(refusal)
        except StaleError as lost:
            detail = str(lost.reason)
        except httpx.TransportError as failure:
            detail = str(failure) or type(failure).__name__
        except Exception as bug:
            logger.exception("a probe failed inside the daemon", extra={"service": said.id})
            detail = f"the daemon could not probe it: {type(bug).__name__}"
        return _failed(detail)

    async def _connect(self, said: Registration) -> ProbeResult:
        (await self._connector.open_tcp(said.host, said.port)).close()
        return ProbeResult(outcome=Outcome.PASS, detail="it accepts connections")

    async def _get(self, said: Registration, check: Check) -> ProbeResult:
        name = said.server_name or said.host
        target = _Target("https" if said.scheme == "https" else "http", name, said.port, check.path)
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._ask(said.host, target)
            if answer.location is None or not 300 <= answer.status < 400:
                return _judged(answer)
            onward = target.onward(answer.location)
            if onward is None:
                return _failed(f"HTTP {answer.status} leads off the host, to {answer.location[:200]!r}")
            target = onward
        return _failed(f"more than {MAX_REDIRECTS} redirects")

    async def _ask(self, host: str, target: "_Target") -> _Answer:
        connection = await self._open(host, target)
        try:
            exchange = Exchange(connection, max_bytes=MAX_READ)
            head = request_line(b"GET", target.path.encode("ascii")) + header_lines(
                (
                    (b"Host", target.authority.encode("ascii")),
                    (b"User-Agent", USER_AGENT.encode("ascii")),
                    (b"Accept", b"*/*"),
                    (b"Accept-Encoding", b"identity"),
                    (b"Connection", b"close"),
                )
            )
            await exchange.send(head + b"\r\n")
            await exchange.head()
            output = await _read(exchange)
        finally:
            connection.close()
        parser = exchange.parser
        location = next((value for key, value in parser.headers if key.lower() == b"location"), None)
        return _Answer(parser.status, None if location is None else location.decode("latin-1"), output)

    async def _open(self, host: str, target: "_Target") -> Connection:
        if target.scheme != "https":
            return Connection(await self._connector.open_tcp(host, target.port))
        context = await self._connector.context()
        connected = await self._connector.open_tcp(host, target.port)
        return await self._connector.start_tls(connected, target.name, context)


_PORTS = {"http": 80, "https": 443}


@attrs.frozen
class _Target:
    """What is asked for; ``name`` is the host as it calls itself."""

    scheme: str
    name: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        host = f"[{self.name}]" if ":" in self.name else self.name
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def onward(self, location: str) -> "_Target | None":
        """Return where a redirect leads on the same host, None if it leads elsewhere or nowhere.

        Another port or scheme is no other host, as Kubernetes' probes see it: services send http to https.
        """
        try:
            url = urlsplit(urljoin(f"{self.scheme}://{self.authority}{self.path}", location))
            port = url.port or _PORTS[url.scheme]
        except (ValueError, KeyError):
            return None
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        if url.hostname != self.name.lower() or _PLAIN.fullmatch(path) is None:
            return None
        return _Target(url.scheme, self.name, port, path)


_PLAIN = re.compile(r"/[\x21-\x7e]*")
"""Nothing else may stand in a request line."""


async def _read(exchange: Exchange) -> bytes:
    """Read the body to its end, or as much as is read of any; keep what is kept."""
    kept = bytearray()
    try:
        while part := await exchange.more():
            if len(kept) < MAX_OUTPUT:
                kept += part[: MAX_OUTPUT - len(kept)]
    except (AnswerTooLargeError, AnswerCutError):
        pass  # it has answered; what more it says is not read, or was not sent
    return bytes(kept)


def _judged(answer: _Answer) -> ProbeResult:
    detail = f"HTTP {answer.status}"
    said = answer.output.decode(errors="replace").strip().partition("\n")[0].strip()
    if said:
        detail += f" {said[:_SHOWN] + '…' if len(said) > _SHOWN else said!r}"
    if 200 <= answer.status < 300:
        outcome = Outcome.PASS
        detail = f"HTTP {answer.status}"
    else:
        outcome = Outcome.WARNING if answer.status == 429 else Outcome.FAIL
    return ProbeResult(outcome=outcome, detail=detail, output=answer.output)


def _failed(detail: str) -> ProbeResult:
    return ProbeResult(outcome=Outcome.FAIL, detail=detail)


@asynccontextmanager
async def open_probe_client(
    *, resolve: Resolve | None = None, make_context: MakeContext | None = None
) -> AsyncGenerator[ProbeClient]:
    """Offer the client for the length of the block.

    ``resolve`` and ``make_context`` stand in for the system's resolver and its trusted certificates.
    """
    async with open_resolver() as system:
        connector = Connector(
            InternalGuard("probed"), resolve or system, *(() if make_context is None else (make_context,))
        )
        yield ProbeClient(connector)
