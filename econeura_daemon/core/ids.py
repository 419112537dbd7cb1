"""Ids that sort by the time at which they were made.

An id is a prefix that tells its kind and a ULID: 48 bits of milliseconds and 80 random bits in Crockford's
base 32 (https://github.com/ulid/spec). Random bits come from the caller's generator: `random.SystemRandom`
in the daemon, a seeded one in tests.
"""

from datetime import datetime
from random import Random

from econeura_daemon.core.clock import to_ms

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]  # ten bits at a time
_RANDOM_BITS = 80
_LAST_MS = (1 << 48) - 1


def new_id(prefix: str, now: datetime, rng: Random) -> str:
    """Return ``prefix_`` and a new ULID of 26 characters, such as ``evt_01JD…``."""
    return _written(prefix, (to_ms(now) << _RANDOM_BITS) | rng.getrandbits(_RANDOM_BITS))


def first_id(prefix: str, instant: datetime) -> str:
    """Return the least id that `new_id` can make at ``instant``; instants before the epoch count as the epoch."""
    return _written(prefix, min(max(to_ms(instant), 0), _LAST_MS) << _RANDOM_BITS)


def _written(prefix: str, bits: int) -> str:
    pairs = _PAIRS
    return (
        f"{prefix}_{pairs[bits >> 120]}{pairs[bits >> 110 & 1023]}{pairs[bits >> 100 & 1023]}"
        f"{pairs[bits >> 90 & 1023]}{pairs[bits >> 80 & 1023]}{pairs[bits >> 70 & 1023]}"
        f"{pairs[bits >> 60 & 1023]}{pairs[bits >> 50 & 1023]}{pairs[bits >> 40 & 1023]}"
        f"{pairs[bits >> 30 & 1023]}{pairs[bits >> 20 & 1023]}{pairs[bits >> 10 & 1023]}{pairs[bits & 1023]}"
    )
