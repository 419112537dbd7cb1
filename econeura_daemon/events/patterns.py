"""Event type patterns: an exact type, ``prefix.*`` at any depth below the prefix, or ``*`` for all."""

from collections.abc import Sequence

from econeura_daemon.events.model import type_flaw

WILDCARD = "*"
_BELOW = ".*"


def prefix_of(pattern: str) -> str | None:
    """Return ``workers.`` for ``workers.*``, None for other patterns."""
    return pattern[:-1] if pattern.endswith(_BELOW) else None


def pattern_flaw(pattern: str) -> str | None:
    """Return what is wrong with a pattern, None if nothing is."""
    if pattern == WILDCARD:
        return None
    flaw = type_flaw(pattern.removesuffix(_BELOW))
    if flaw is None:
        return None
    if "*" in pattern.removesuffix(_BELOW):
        return f"a wildcard stands alone ('*') or at the end ('workers.*'), got {pattern!r}"
    return flaw


def candidates(event_type: str) -> tuple[str, ...]:
    """Return every pattern that matches the type: itself, each prefix with ``.*``, and ``*``.

    >>> candidates("workers.email.processed")
    ('workers.email.processed', 'workers.email.*', 'workers.*', '*')
    """
    found = [event_type]
    end = event_type.rfind(".")
    while end > 0:
        found.append(event_type[:end] + _BELOW)
        end = event_type.rfind(".", 0, end)
    found.append(WILDCARD)
    return tuple(found)


def matches_any(patterns: Sequence[str], event_type: str) -> bool:
    """Tell whether one of the patterns matches the type."""
    for pattern in patterns:
        prefix = prefix_of(pattern)
        if pattern in {WILDCARD, event_type} or (prefix is not None and event_type.startswith(prefix)):
            return True
    return False
