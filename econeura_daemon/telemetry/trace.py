"""W3C Trace Context: reading the caller's headers and making those of our own calls.

https://www.w3.org/TR/trace-context-1/ (the Recommendation of 2021). Pure: ids come from a generator that is
passed in.
"""

import re
from random import Random

import attrs

_SAMPLED = 0x01

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)

_MEMBER = re.compile(
    r"(?P<key>[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    r"=(?P<value>[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])",
    re.ASCII,
)

MAX_MEMBERS = 32
"""List members of a ``tracestate`` (section 3.3.1.1); more make it invalid."""

MAX_STATE = 512
"""Characters of ``tracestate`` that everybody passes on (section 3.3.1.5); we pass on no more."""

_LONG_MEMBER = 128
"""Members longer than this are dropped first when a ``tracestate`` is shortened (section 3.3.1.5)."""


@attrs.frozen
class TraceContext:
    """A place in a trace."""

    trace_id: str
    """32 lower-case hexadecimal digits, not all zero."""
    parent_id: str
    """16 of them: the span that calls."""
    sampled: bool
    state: tuple[tuple[str, str], ...] = ()
    """The vendors' members of ``tracestate``, the latest first."""

    @property
    def traceparent(self) -> str:
        """The header's value, in version 00, which is the one that we know."""
        return f"00-{self.trace_id}-{self.parent_id}-{_SAMPLED if self.sampled else 0:02x}"

    @property
    def tracestate(self) -> str | None:
        """The header's value, at most `MAX_STATE` characters; None: send no such header."""
        members = [f"{key}={value}" for key, value in self.state]
        if len(",".join(members)) > MAX_STATE:
            members = [member for member in members if len(member) <= _LONG_MEMBER]
        while len(",".join(members)) > MAX_STATE:
            members.pop()
        return ",".join(members) or None

    def headers(self) -> list[tuple[str, str]]:
        """Return the headers of a call that is made in this context."""
        state = self.tracestate
        return [("traceparent", self.traceparent), *([("tracestate", state)] if state else [])]


def parse_traceparent(text: str | None, state: str | None = None) -> TraceContext | None:
    """Read the headers ``traceparent`` and ``tracestate``; None: the caller gave no valid context.

    A ``tracestate`` that is invalid is dropped alone. Of a version later than 00 the part that 00 defines is
    taken (section 3.2.4), so that the trace is not broken by a caller that is newer than we are.
    """
    if text is None:
        return None
    match = _TRACEPARENT.fullmatch(text.strip(" \t"))
    if match is None:
        return None
    version, trace_id, parent_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    if trace_id == "0" * 32 or parent_id == "0" * 16:
        return None
    return TraceContext(trace_id, parent_id, bool(int(flags, 16) & _SAMPLED), parse_tracestate(state))


def parse_tracestate(text: str | None) -> tuple[tuple[str, str], ...]:
    """Read a ``tracestate``, several headers joined by commas; empty where anything in it is invalid."""
    if text is None:
        return ()
    members: dict[str, str] = {}
    for part in text.split(","):
        member = part.strip(" \t")
        if not member:
            continue  # allowed, section 3.3.1.1
        match = _MEMBER.fullmatch(member)
        if match is None or match["key"] in members or len(members) == MAX_MEMBERS:
            return ()
        members[match["key"]] = match["value"]
    return tuple(members.items())


def new_trace(rng: Random, *, sampled: bool = False) -> TraceContext:
    """Begin a trace."""
    return TraceContext(_new_hex(rng, 128), _new_hex(rng, 64), sampled)


def child(context: TraceContext | None, rng: Random) -> TraceContext:
    """Return the context of a call made within ``context``; without one, of a new trace."""
    if context is None:
        return new_trace(rng)
    return attrs.evolve(context, parent_id=_new_hex(rng, 64))


def call_headers(context: TraceContext | None, rng: Random) -> list[tuple[bytes, bytes]]:
    """Return the headers of ``child(context, rng)``, for calls that are made by the thousand."""
    if context is None:
        trace, parent = rng.getrandbits(128), rng.getrandbits(64)
        if trace and parent:  # all zero is invalid
            return [(b"traceparent", b"00-%032x-%016x-00" % (trace, parent))]
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in child(context, rng).headers()]


def _new_hex(rng: Random, bits: int) -> str:
    while True:
        if value := rng.getrandbits(bits):  # all zero is invalid
            return f"{value:0{bits // 4}x}"
