"""The few shapes of ASGI 3 that the server and its layers speak
(https://asgi.readthedocs.io/en/latest/specs/www.html).
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

AsgiScope = MutableMapping[str, Any]
"""What is known about a connection; ``Scope`` alone is what a token may do (`server.context`)."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[AsgiScope, Receive, Send], Awaitable[None]]

Header = tuple[bytes, bytes]


def header(scope: AsgiScope, name: bytes) -> bytes | None:
    """Return the first value of a request header (``name`` in lower case), None without one."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def has_header(headers: list[Header], name: bytes) -> bool:
    """Tell whether a response's headers hold ``name`` (in lower case)."""
    return any(key.lower() == name for key, _ in headers)
