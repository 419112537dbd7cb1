"""When Python's garbage collector works: seldom, and never over what stays for good.

Reference counts free nearly all that the daemon leaves behind; only Quart and exceptions leave cycles, some six
objects a request. But connections that wait and go on make and free coroutines all the time, so with thousands of them
CPython's thresholds are reached many times a second, and each time the collector walks over tens of thousands of
objects that live: with 2,000 connections up to 17 ms for the youngest and 35 ms for the next generation, 70 to
90 ms for all. Nobody is answered meanwhile.
"""

import gc
from collections.abc import Generator
from contextlib import contextmanager

THRESHOLDS = (20_000, 10, 10)
"""Container objects made and not freed before the youngest generation is collected (CPython: 700), and collections
of one generation before the next. A few megabytes of garbage at most wait for it.
"""


@contextmanager
def collecting_seldom() -> Generator[None]:
    """Let the collector work seldom for the length of the block."""
    before = gc.get_threshold()
    gc.set_threshold(*THRESHOLDS)
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


def keep_what_stands() -> None:
    """Never look again at what stands now (modules, classes, the application), once all is made and before much is
    asked.
    """
    gc.collect()
    gc.freeze()
