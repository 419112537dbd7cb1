"""The last calls, for whoever looks into what went wrong: kept in memory, a fixed number of them."""

from collections import deque
from collections.abc import Iterator

import attrs

from econeura_daemon.client.calls import Answer, Attempt, Call
from econeura_daemon.client.errors import MeshError

KEPT = 1000
"""Calls; a few hundred bytes each."""
_SHOWN = 256


@attrs.frozen
class Called:
    """A call that has its answer's head, or none."""

    id: str
    """The request's id, as the instance got it; empty: it had none."""
    service: str
    method: str
    path: str
    """Without its query, which may hold secrets; cut after some characters."""
    at: float
    """When it began, on Trio's clock."""
    seconds: float
    """To the head, or to the failure."""
    status: int | None
    problem: str | None
    """The slug, where there was no answer; neither: the caller left before, or its own request came to nothing."""
    trace_id: str | None
    attempts: tuple[Attempt, ...]

    @classmethod
    def of(cls, call: Call, ended: Answer | MeshError | None, seconds: float) -> "Called":
        """Note what came of a call."""
        return cls(
            id=call.id,
            service=call.service,
            method=call.method,
            path=call.place.partition(b"?")[0][:_SHOWN].decode("latin-1"),
            at=call.began,
            seconds=seconds,
            status=ended.status if isinstance(ended, Answer) else None,
            problem=ended.slug if isinstance(ended, MeshError) else None,
            trace_id=None if call.trace is None else call.trace.trace_id,
            attempts=tuple(call.made),
        )


class Recent:
    """The ring."""

    def __init__(self) -> None:
        self._ring: deque[Called] = deque(maxlen=KEPT)

    def note(self, called: Called) -> None:
        """Keep a call, and forget the oldest beyond `KEPT`."""
        self._ring.append(called)

    def __iter__(self) -> Iterator[Called]:
        """Return them, the newest first."""
        return iter(list(reversed(self._ring)))
