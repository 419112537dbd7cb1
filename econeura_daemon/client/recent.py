"""The last calls, for whoever looks into what went wrong: kept in memory, a fixed number of them."""

from collections import deque
from collections.abc import Iterator

import attrs

from econeura_daemon.client.calls import Answer, Attempt, Call
from econeura_daemon.client.errors import MeshError
from econeura_daemon.telemetry.trace import TraceContext

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


_Noted = tuple[str, str, str, bytes, float, float, int | None, str | None, TraceContext | None, list[Attempt]]


class Recent:
    """The ring. What is noted at every call is put into words when somebody asks."""

    def __init__(self) -> None:
        self._ring: deque[_Noted] = deque(maxlen=KEPT)

    def note(self, call: Call, ended: Answer | MeshError | None, seconds: float) -> None:
        """Keep what came of a call, and forget the oldest beyond `KEPT`."""
        self._ring.append(
            (
                call.id,
                call.service,
                call.method,
                call.place.partition(b"?")[0][:_SHOWN],
                call.began,
                seconds,
                ended.status if isinstance(ended, Answer) else None,
                ended.slug if isinstance(ended, MeshError) else None,
                call.trace,
                call.made,
            )
        )

    def __iter__(self) -> Iterator[Called]:
        """Return them, the newest first."""
        for id_, service, method, path, at, seconds, status, problem, trace, made in list(
            reversed(self._ring)
        ):
            yield Called(
                id=id_,
                service=service,
                method=method,
                path=path.decode("latin-1"),
                at=at,
                seconds=seconds,
                status=status,
                problem=problem,
                trace_id=None if trace is None else trace.trace_id,
                attempts=tuple(made),
            )
