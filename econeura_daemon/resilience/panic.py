"""When too few instances are left, all of them are used: an answer that may fail is better than none.

Source: Envoy's panic threshold, ``healthy_panic_threshold`` 50 %.
"""

import enum
from collections.abc import Hashable, Mapping

import attrs

THRESHOLD = 0.5
"""Below this part of available instances there is panic."""


class Availability(enum.Enum):
    """What is known of an instance, without its breaker and its limit."""

    AVAILABLE = "available"
    UNAVAILABLE = "unavailable"
    """Unhealthy or ejected."""
    UNKNOWN = "unknown"
    """Nothing has been found out about it yet. It gets calls only if there is nobody of whom more is known, and it
    does not count: five that come beside two are no reason to panic (Envoy: ``ignore_new_hosts_until_first_hc``).
    """
    DRAINED = "drained"
    """It is to get no more calls, whatever happens; it does not count."""


@attrs.frozen
class Candidates:
    """Who may be picked. The reported status of each stays what it is."""

    keys: tuple[Hashable, ...]
    is_panic: bool


def candidates(instances: Mapping[Hashable, Availability], threshold: float = THRESHOLD) -> Candidates:
    """Return the available instances, or all but the drained ones if too few are available.

    Panic overrides status and ejection, never a breaker, a limit or a drain.
    """
    remaining = {key: state for key, state in instances.items() if state is not Availability.DRAINED}
    known = [state for state in remaining.values() if state is not Availability.UNKNOWN]
    available = tuple(key for key, state in remaining.items() if state is Availability.AVAILABLE)
    if len(available) < threshold * len(known):
        return Candidates(tuple(remaining), is_panic=True)
    return Candidates(available if known else tuple(remaining), is_panic=False)
