"""Random bits from the operating system, fetched in larger portions than they are used in.

`random.SystemRandom` makes a system call for every id, and while it is made another thread takes the
interpreter: with a busy writer thread that costs far more than the call.
"""

from collections import deque
from os import urandom
from random import SystemRandom

_BITS = 128
_PORTION = 256
"""Numbers of `_BITS` bits that are fetched at once: 4 KiB."""


class BufferedSystemRandom(SystemRandom):
    """`random.SystemRandom` with a buffer. Safe to use from several threads, not across a fork."""

    def __init__(self) -> None:
        super().__init__()
        self._buffer: deque[int] = deque()

    def getrandbits(self, k: int) -> int:
        """Return a non-negative integer with ``k`` random bits."""
        if not 0 <= k <= _BITS:
            return super().getrandbits(k)
        while True:
            try:
                return self._buffer.popleft() >> (_BITS - k)
            except IndexError:
                self._fill()

    def random(self) -> float:
        """Return a number from 0.0, included, to 1.0, excluded."""
        return self.getrandbits(53) * 2.0**-53

    def _fill(self) -> None:
        size = _BITS // 8
        portion = urandom(_PORTION * size)
        self._buffer.extend(
            int.from_bytes(portion[start : start + size], "big") for start in range(0, len(portion), size)
        )
