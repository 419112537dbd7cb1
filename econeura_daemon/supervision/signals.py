"""Signals: the first SIGTERM or SIGINT drains, the second cancels, SIGHUP reloads; and the stop that always
works.

Python runs signal handlers on the main thread between two bytecodes, so they run even while a bug keeps the
event loop busy or asleep, which Trio's own receiver would not notice. The handler therefore arms the hard
stop itself, by writing a byte to a pipe; it takes no lock that the interrupted code may hold. Out of its
reach is a main thread stuck inside one call into C: systemd's watchdog and ``TimeoutStopSec`` are for that.
"""

import faulthandler
import logging
import os
import select
import signal
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import FrameType

import trio

EXIT_FORCED = 70
"""The exit code of the hard stop (docs/http-api.md)."""

GRACE = 5.0
"""Seconds beyond the drain's end before the hard stop: shields are bounded by as much."""

_STOP = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger(__name__)


class HardStop:
    """Ends the process a given time after it was armed, whatever the event loop and other threads do.

    A drained process ends before; so nobody needs to disarm it, and a hang after the loop's end is caught
    too.
    """

    def __init__(self, seconds: float) -> None:
        """``seconds``: from arming to the end; may be changed until then."""
        self.seconds = seconds
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._armed = False
        self._thread = threading.Thread(target=self._wait, name="hard-stop", daemon=True)

    @property
    def armed(self) -> bool:
        """Whether the time runs."""
        return self._armed

    def arm(self) -> None:
        """Start the time, once. May be called from a signal handler."""
        if not self._armed:
            self._armed = True
            os.write(self._write, b"!")

    def start(self) -> None:
        """Start the thread that waits."""
        self._thread.start()

    def close(self) -> None:
        """Disarm, and end the thread."""
        os.close(self._write)
        self._thread.join()
        os.close(self._read)

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        poll.poll()
        if not os.read(self._read, 1):
            return  # closed, never armed
        if poll.poll(self.seconds * 1000):
            return  # closed in time
        # No logging: its locks may be part of what hangs.
        os.write(
            2, f"the drain took longer than {self.seconds:g} s, the process is ended by force\n".encode()
        )
        faulthandler.dump_traceback(2, all_threads=True)  # says what hung
        os._exit(EXIT_FORCED)


@contextmanager
def open_hard_stop(seconds: float) -> Generator[HardStop]:
    """Keep a hard stop ready. Leave the block only when nothing can hang any more: it is disarmed then."""
    hard_stop = HardStop(seconds)
    hard_stop.start()
    try:
        yield hard_stop
    finally:
        hard_stop.close()


@asynccontextmanager
async def open_signals(
    *,
    hard_stop: HardStop,
    drain: Callable[[], object],
    cancel: Callable[[], object],
    reload: Callable[[], Awaitable[object]],
) -> AsyncGenerator[None]:
    """Answer signals for the length of the block: on the main thread, in Trio.

    ``drain`` and ``cancel`` return at once. While a ``reload`` is under way further SIGHUPs make one more;
    what it raises is logged, and the old settings stay.
    """
    token = trio.lowlevel.current_trio_token()
    send, receive = trio.open_memory_channel[int](float("inf"))

    def handler(number: int, _frame: FrameType | None) -> None:
        if number in _STOP:
            hard_stop.arm()
        token.run_sync_soon(send.send_nowait, number)  # made for signal handlers

    before = {number: signal.signal(number, handler) for number in (*_STOP, signal.SIGHUP)}
    try:
        async with trio.open_nursery() as nursery:
            hang_ups, reloads = trio.open_memory_channel[None](1)
            nursery.start_soon(_reload_each, reloads, reload)
            nursery.start_soon(_answer_each, receive, hang_ups, drain, cancel)
            try:
                yield
            finally:
                nursery.cancel_scope.cancel()
    finally:
        for number, handled in before.items():
            signal.signal(number, handled)
        send.close()
        receive.close()


async def _answer_each(
    signals: trio.MemoryReceiveChannel[int],
    hang_ups: trio.MemorySendChannel[None],
    drain: Callable[[], object],
    cancel: Callable[[], object],
) -> None:
    stops = 0
    async for number in signals:
        name = signal.Signals(number).name
        if number == signal.SIGHUP:
            with suppress(trio.WouldBlock):  # one waits already, and will read what this one means
                hang_ups.send_nowait(None)
            continue
        stops += 1
        if stops == 1:
            _log.info("%s: draining", name)
            drain()
        elif stops == 2:
            _log.warning("%s again: stopping without waiting", name)
            cancel()


async def _reload_each(
    hang_ups: trio.MemoryReceiveChannel[None], reload: Callable[[], Awaitable[object]]
) -> None:
    async for _ in hang_ups:
        _log.info("SIGHUP: reading the settings again")
        try:
            await reload()
        except Exception:  # noqa: BLE001 - a bad file must not end the daemon
            _log.exception("the reload failed; the settings stay as they were")
