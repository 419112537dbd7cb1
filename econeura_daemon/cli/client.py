"""Talks to a daemon: one request after the other, over TCP, TLS or a unix socket.

Standard library only, so that a command starts at once. What the daemon refuses becomes a `CommandError` with
the problem's own sentences and the exit code of its kind.
"""

import functools
import http.client
import json
import os
import socket
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import attrs
import click

from econeura_daemon._version import VERSION
from econeura_daemon.cli.address import Address, find_address, parse_address
from econeura_daemon.cli.exits import CommandError, Exit
from econeura_daemon.cli.output import plain

TIMEOUT = 10.0
"""Seconds without a byte, for what is answered at once; who waits on purpose gives their own."""
PAGE = 250
"""The most that the API gives at once."""

_CODES = {401: Exit.NOT_ALLOWED, 403: Exit.NOT_ALLOWED, 404: Exit.NOT_FOUND, 409: Exit.CONFLICT}

Command = TypeVar("Command", bound=Callable[..., Any])


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@attrs.frozen
class Answer:
    """What a request came to."""

    status: int
    data: Any
    headers: HTTPMessage
    """Looked up in any case."""


@attrs.frozen
class Client:
    """A daemon that can be asked."""

    address: Address
    token: str | None = attrs.field(default=None, repr=False)
    patience: float = TIMEOUT
    """Seconds without a byte after which the daemon counts as unreachable, where no others are given."""

    def get(self, path: str, query: Mapping[str, Any] | None = None, *, ok: tuple[int, ...] = ()) -> Any:
        """Return an answer's ``data``. A status among ``ok`` is no failure."""
        return self.call("GET", path, query=query, ok=ok)

    def page(self, path: str, query: Mapping[str, Any], limit: int) -> list[dict[str, Any]]:
        """Return up to ``limit`` items of a list, over as many pages as that takes."""
        items: list[dict[str, Any]] = []
        cursor = None
        while len(items) < limit:
            size = min(PAGE, limit - len(items))
            data = self.get(path, {**query, "limit": size, "cursor": cursor})
            items += data["items"]
            cursor = data.get("nextCursor")
            if cursor is None:
                break
        return items

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        ok: tuple[int, ...] = (),
    ) -> Any:
        """Make a request and return the answer's ``data``, None for an answer without a body."""
        return self.fetch(method, path, query=query, body=body, ok=ok).data

    def fetch(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        ok: tuple[int, ...] = (),
        timeout: float | None = None,
    ) -> Answer:
        """Make a request and return all of the answer; as `call` does. ``timeout``: seconds without a byte."""
        with self.open(method, path, query=query, body=body, headers=headers, timeout=timeout) as response:
            raw = self._read(method, response)
        if response.status >= 300 and response.status not in ok:
            raise problem(response.status, response.reason, raw)
        try:
            data = json.loads(raw)["data"] if raw else None
        except (ValueError, LookupError, TypeError):
            raise self.stranger() from None
        return Answer(response.status, data, response.headers)

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Generator[HTTPResponse]:
        """Make a request and lend its answer, whatever its status. Raises `CommandError`."""
        given = {key: value for key, value in (query or {}).items() if value is not None}
        target = (
            self.address.prefix
            + path
            + (f"?{urlencode(given, safe=',*', errors='replace')}" if given else "")
        )
        sent = {"Host": self.address.authority, "User-Agent": f"econeura-daemon-cli/{VERSION}"}
        if self.token is not None:
            sent["Authorization"] = f"Bearer {self.token}"
        content = None
        if body is not None:
            content = json.dumps(body, separators=(",", ":")).encode()
            sent["Content-Type"] = "application/json"
        with closing(self._connection(self.patience if timeout is None else timeout)) as connection:
            try:
                connection.connect()
            except OSError as error:
                raise self._unreachable(error) from None
            try:
                connection.request(method, target, body=content, headers={**sent, **(headers or {})})
                response = connection.getresponse()
            except (OSError, HTTPException) as error:
                raise self.broken(method, error) from None
            with response:
                yield response

    def _connection(self, timeout: float) -> HTTPConnection:
        address = self.address
        if address.unix_path is not None:
            return _UnixConnection(address.unix_path, timeout)
        if address.tls:
            return http.client.HTTPSConnection(address.host, address.port, timeout=timeout)
        return HTTPConnection(address.host, address.port, timeout=timeout)

    def _read(self, method: str, response: HTTPResponse) -> bytes:
        try:
            return response.read()
        except (OSError, HTTPException) as error:
            raise self.broken(method, error) from None

    def _unreachable(self, error: OSError) -> CommandError:
        reason = error.strerror or str(error) or type(error).__name__
        return CommandError(
            Exit.UNREACHABLE,
            f"no daemon answers at {self.address.url}: {reason}",
            ["start one with `econeura-daemon serve`, or name another with --url or ECONEURA_URL"],
        )

    def broken(self, method: str, error: Exception) -> CommandError:
        """Return what a connection means that ended, or fell silent, before its answer did."""
        details = []
        if method != "GET":
            details = ["whether it did what it was asked nobody knows: look before you ask again"]
        if isinstance(error, TimeoutError):
            details.append("it may be stopped, or have more to do than it can")
            return CommandError(Exit.UNREACHABLE, f"{self.address.url} does not answer: {error}", details)
        reason = str(error) or type(error).__name__
        return CommandError(
            Exit.UNREACHABLE, f"the connection to {self.address.url} broke: {reason}", details
        )

    def stranger(self) -> CommandError:
        """Return what an answer means that no daemon gives."""
        return CommandError(Exit.FAILED, f"what answers at {self.address.url} is no econeura-daemon")


def segment(key: str) -> str:
    """Return an id as one segment of a path."""
    return quote(key, safe="", errors="replace")


def problem(status: int, reason: str, raw: bytes) -> CommandError:
    """Turn a problem document into sentences."""
    try:
        found = json.loads(raw)
        title, detail = str(found["title"]), str(found.get("detail") or "")
        details = [f"{flaw['path']}: {flaw['message']}" for flaw in found.get("details") or ()]
        instance = found.get("instance")
    except (ValueError, LookupError, TypeError, AttributeError):
        title, detail, details, instance = reason or "no reason given", "", [], None
    message = f"{title} ({status})" + (f": {detail}" if detail and detail != title else "")
    if status == 401:
        details.append("give a token with --token, ECONEURA_TOKEN or ECONEURA_TOKEN_FILE")
    if instance and status >= 500:
        details.append(f"the daemon's log tells more of request {instance}")
    code = _CODES.get(status, Exit.FAILED)
    return CommandError(code, plain(message), [plain(line) for line in details], status=status)


def client_options(command: Command) -> Command:
    """Give a command ``--url`` and ``--token`` and hand it the `Client` as ``client``."""

    @click.option(
        "--url", envvar="ECONEURA_URL", help="The daemon: http://HOST:PORT, https://… or unix:PATH."
    )
    @click.option(
        "--token",
        envvar="ECONEURA_TOKEN",
        help="An access token. ECONEURA_TOKEN_FILE names a file that holds one; that keeps it out of `ps`.",
    )
    @functools.wraps(command)
    def with_client(*arguments: Any, url: str | None, token: str | None, **named: Any) -> Any:
        return command(*arguments, client=make_client(url, token), **named)

    return with_client  # type: ignore[return-value]


def make_client(url: str | None, token: str | None) -> Client:
    """Return a client for what the user named, or for what is found."""
    if token is None and os.environ.get("ECONEURA_TOKEN_FILE"):
        token = Path(os.environ["ECONEURA_TOKEN_FILE"]).read_text(encoding="utf-8", errors="replace").strip()
    if token is not None and not (token.isascii() and token.isprintable()):
        raise CommandError(Exit.USAGE, "a token holds printable ASCII characters only")
    return Client(parse_address(url) if url else find_address(os.environ), token or None)


def sse(response: HTTPResponse) -> Iterator[tuple[str | None, str, str]]:
    """Read Server-Sent Events as (id, event, data) until the stream ends.

    Format: https://html.spec.whatwg.org/multipage/server-sent-events.html, without what a daemon never sends.
    """
    fields: dict[str, str] = {}
    data: list[str] = []
    while line := response.readline():
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text:
            name, _, value = text.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                data.append(value)
            elif name:
                fields[name] = value
        elif data:
            yield fields.get("id"), fields.get("event", "message"), "\n".join(data)
            fields, data = {}, []
        else:
            if "id" in fields:  # a place to resume from, and nothing to tell
                yield fields["id"], "", ""
            fields = {}
