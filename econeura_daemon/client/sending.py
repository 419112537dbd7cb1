"""The last step: an attempt as bytes, over the pooled connections of `wire`."""

from random import Random

import trio

from econeura_daemon.client.calls import Call, KeptBody, Sent
from econeura_daemon.client.service import Service
from econeura_daemon.telemetry.trace import call_headers
from econeura_daemon.wire import Body, GuardedTransport, Target, header_lines, request_line

_WITH_LENGTH = frozenset({"POST", "PUT", "PATCH"})
"""Methods that say the length of a body also when there is none (RFC 9110 8.6)."""


class Sender:
    """Sends attempts."""

    def __init__(self, transport: GuardedTransport, rng: Random) -> None:
        self._transport = transport
        self._rng = rng

    def to(self, service: Service) -> "SenderTo":
        """Return what sends to the instances of one service."""
        return SenderTo(self._transport, self._rng, service)


class SenderTo:
    """Sends attempts to the instances of one service: a `steps.Send`."""

    def __init__(self, transport: GuardedTransport, rng: Random, service: Service) -> None:
        self._transport = transport
        self._rng = rng
        self._service = service

    async def __call__(self, call: Call, target: Target) -> Sent:
        """Make one attempt. Raises as `GuardedTransport.send` does."""
        policy, body = self._service.policy, call.body
        headers = [(b"Host", target.authority), *call.headers, *call_headers(call.trace, self._rng)]
        # What is left of the whole, not of this attempt: an instance that is given up may stop by itself.
        left = max(1, round((call.deadline - trio.current_time()) * 1000))
        headers.append((b"X-Timeout-Ms", b"%d" % left))
        content: bytes | Body
        if isinstance(body, KeptBody):
            content = Body(body.stream(), body.length, is_resumable=body.is_resumable)
            framing = (b"Transfer-Encoding", b"chunked")
            headers.append(framing if body.length is None else (b"Content-Length", b"%d" % body.length))
        else:
            content = body
            if body or call.method in _WITH_LENGTH:
                headers.append((b"Content-Length", b"%d" % len(body)))
        return await self._transport.send(
            target,
            request_line(call.method.encode("ascii", "backslashreplace"), call.place) + header_lines(headers),
            content,
            repeatable=call.is_idempotent,
            head_only=call.method == "HEAD",
            timeouts={"connect": policy.try_timeout, "write": policy.timeout},
            # The head has the attempt's own.
            body_timeout=call.timeout if call.is_patient and call.timeout else policy.timeout,
        )
