"""One daemon, asked over HTTP: where it is, with which token, and what its answers mean."""

import json
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import anyio
import httpx

from econeura_daemon._version import VERSION
from econeura_daemon.finding import find_url
from econeura_daemon.registrant.errors import (
    ConfigurationError,
    RefusedError,
    RegistrantError,
    UnavailableError,
)

MakeTransport = Callable[[], httpx.AsyncBaseTransport]
"""Makes the transport of one connection."""

_PASSING = {408, 425, 429}
"""Statuses below 500 that may be others the next time."""


@dataclass(frozen=True, kw_only=True)
class Contact:
    """How the daemon is reached. What is None is looked up anew for each connection.

    So a daemon that comes back at another address is found there, and a token that was replaced is taken up.
    """

    url: str | None = None
    token: str | None = field(default=None, repr=False)
    transport: MakeTransport | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    @asynccontextmanager
    async def connect(self, seconds: float) -> AsyncGenerator["Connection"]:
        """Lend a connection whose requests take ``seconds`` at most. Raises `ConfigurationError`."""
        url = self._url()
        headers = {"User-Agent": f"econeura-daemon-registrant/{VERSION}"}
        token = self._token()
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        async with self._transport(url) as transport:
            yield Connection(transport, url, headers, seconds)

    def check(self) -> None:
        """Raise `ConfigurationError` where address or token cannot be right."""
        self._url()
        self._token()

    def _transport(self, url: str) -> httpx.AsyncBaseTransport:
        if self.transport is not None:
            return self.transport()
        if url.startswith("unix:"):
            return httpx.AsyncHTTPTransport(uds=_socket_path(url), verify=False, trust_env=False)
        # Certificates are loaded where there are some to verify: it takes longer than all the rest.
        return httpx.AsyncHTTPTransport(verify=url.startswith("https:"), trust_env=False)

    def _url(self) -> str:
        url = self.url or self.environ.get("ECONEURA_URL") or find_url(self.environ)
        if url.startswith("unix:"):
            if not _socket_path(url):
                raise ConfigurationError(f"{url!r} names no socket: expected unix:PATH")
            return url
        try:
            parts = urlsplit(url)
            parts.port  # noqa: B018 - looked at, it raises where it is none
        except ValueError as error:
            raise ConfigurationError(f"{url!r} is no address: {error}") from None
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ConfigurationError(f"expected http://HOST:PORT, https://… or unix:PATH, got {url!r}")
        if parts.username is not None:
            raise ConfigurationError("an address carries no user name; give a token")
        return url

    def _token(self) -> str | None:
        token = self.token or self.environ.get("ECONEURA_TOKEN")
        file = self.environ.get("ECONEURA_TOKEN_FILE")
        if not token and file:
            try:
                token = Path(file).read_text(encoding="utf-8", errors="replace").strip()
            except OSError as error:
                raise ConfigurationError(f"{file}: {error.strerror}") from None
        if token and not (token.isascii() and token.isprintable()):
            raise ConfigurationError("a token holds printable ASCII characters only")
        return token or None


@dataclass(frozen=True)
class Connection:
    """Lent by `Contact.connect`. What it cannot do it raises as a `RegistrantError`.

    On the transport alone: a client of httpx logs every request, each renewal that is.
    """

    transport: httpx.AsyncBaseTransport
    url: str
    headers: Mapping[str, str] = field(repr=False)
    seconds: float
    """How long a request may take in all."""

    async def register(self, registration: Mapping[str, Any]) -> str:
        """Register; return the status."""
        return self._status_in(await self._ask("POST", "/v1/services", registration))

    async def renew(self, instance_id: str) -> str | None:
        """Renew the lease; return the status, None if the daemon knows no such instance."""
        answer = await self._ask("PUT", f"{_path(instance_id)}/heartbeat", missing_is_none=True)
        return None if answer is None else self._status_in(answer)

    async def drain(self, instance_id: str, *, draining: bool) -> str | None:
        """Begin or end maintenance; return the status, None if the daemon knows no such instance."""
        method = "PUT" if draining else "DELETE"
        answer = await self._ask(method, f"{_path(instance_id)}/drain", missing_is_none=True)
        return None if answer is None else self._status_in(answer)

    async def deregister(self, instance_id: str) -> None:
        """Deregister; one that is not there is deregistered."""
        await self._ask("DELETE", _path(instance_id), missing_is_none=True)

    async def _ask(
        self, method: str, path: str, body: Any = None, *, missing_is_none: bool = False
    ) -> httpx.Response | None:
        try:
            with anyio.fail_after(self.seconds):
                answer = await self.transport.handle_async_request(self._request(method, path, body))
                await answer.aread()
        except TimeoutError:
            raise UnavailableError(f"{self.url} did not answer within {self.seconds:g} s") from None
        except (httpx.HTTPError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise UnavailableError(f"no daemon answers at {self.url}: {reason}") from error
        if missing_is_none and answer.status_code == 404:
            return None
        if not answer.is_success:
            raise _refusal(answer, self.url)
        return answer

    def _request(self, method: str, path: str, body: Any) -> httpx.Request:
        url = "http://localhost" if self.url.startswith("unix:") else self.url.rstrip("/")
        return httpx.Request(method, url + path, headers=self.headers, json=body)

    def _status_in(self, answer: httpx.Response | None) -> str:
        assert answer is not None, "asked for without `missing_is_none`, or looked at"
        try:
            return str(answer.json()["data"]["status"])
        except (ValueError, LookupError, TypeError):
            raise RefusedError(
                f"what answers at {self.url} is no econeura-daemon", answer.status_code
            ) from None


def _socket_path(url: str) -> str:
    path = url.removeprefix("unix:")
    return f"/{path.lstrip('/')}" if path.startswith("//") else path


def _path(instance_id: str) -> str:
    return f"/v1/services/{quote(instance_id, safe='')}"


def _refusal(answer: httpx.Response, url: str) -> RegistrantError:
    """Turn a problem document into a sentence."""
    status = answer.status_code
    try:
        found = json.loads(answer.content)
        flaws = [f"{flaw['path']}: {flaw['message']}" for flaw in found.get("details") or ()]
        said = [str(found["title"]), *flaws] if flaws else [str(found.get("detail") or found["title"])]
    except (ValueError, LookupError, TypeError, AttributeError):
        said = [answer.reason_phrase or "no reason given"]
    if status == 401:
        said.append("give a token, or set ECONEURA_TOKEN or ECONEURA_TOKEN_FILE")
    message = f"the daemon at {url} answers {status}: {'; '.join(said)}"
    if status >= 500 or status in _PASSING:
        return UnavailableError(message)
    return RefusedError(message, status)
