"""Letting load come back slowly: to a breaker that closed, to an instance that joined."""

FLOOR = 0.1
"""The share at the very beginning: with none at all nothing could ever be learnt (Envoy: ``min_weight_percent``)."""


def share(age: float, seconds: float) -> float:
    """Return the part of its load, from `FLOOR` to 1, that is let through ``age`` seconds after a start.

    It rises linearly over ``seconds``; 0 seconds switch it off.
    """
    return 1.0 if age >= seconds else max(FLOOR, age / seconds)
