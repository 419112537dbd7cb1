"""Due times of many things in one heap, and one task that sleeps until the next of them.

A task each would cost 3 kB and, to fire, 9 to 23 times the CPU. A timer that is put off stays where it is in the
heap and is looked at again when its old time comes: renewing a lease a thousand times costs a thousand assignments
and one push. A timer that is cancelled stays there too, until such are the half of the heap.
"""

import heapq
import logging
import math
from collections.abc import Callable
from typing import Any

import trio

TICK = 1.0
"""Seconds that the task sleeps at most: how late it then wakes tells a loop that stood still."""
FEW = 64
"""Cancelled timers that are not worth sweeping."""

_log = logging.getLogger(__name__)


class Timer:
    """One thing that falls due: `fire` is called on the loop with the time, once for each `Timers.set`."""

    __slots__ = ("due", "entry", "fire")

    def __init__(self, fire: Callable[[float], None]) -> None:
        self.fire = fire
        self.due = math.inf
        """By Trio's clock; infinite: not at all."""
        self.entry = math.inf
        """Where it stands in the heap."""


class Timers:
    """The heap. `turned` is called after each turn in which something fired, `ticked` each time the task wakes."""

    def __init__(self) -> None:
        self.turned: list[Callable[[float], None]] = []
        self.ticked: list[Callable[[float, float], None]] = []
        """Take the time, and how late it is, in seconds."""
        self._heap: list[tuple[float, int, Timer]] = []
        self._pushed = 0
        self._cancelled = 0
        """So often was one of the heap's timers cancelled since the heap was swept."""
        self._sleeping: trio.CancelScope | None = None

    def __repr__(self) -> str:
        return f"<Timers: {len(self._heap)} entries>"

    def set(self, timer: Timer, due: float) -> None:
        """Let ``timer`` fire at ``due`` (seconds by Trio's clock) and not before."""
        timer.due = due
        if due >= timer.entry:
            return
        timer.entry = due
        self._pushed += 1
        heapq.heappush(self._heap, (due, self._pushed, timer))
        if self._sleeping is not None and due < self._sleeping.deadline:
            self._sleeping.deadline = due

    def cancel(self, timer: Timer) -> None:
        """Let it not fire; it leaves the heap when its time comes, or with many others before."""
        timer.due = math.inf
        if timer.entry < math.inf:
            self._cancelled += 1
            if self._cancelled > max(FEW, len(self._heap) // 2):
                self._sweep()

    def _sweep(self) -> None:
        """Let go of what was cancelled: a time can be a year off, and a timer holds all of what it is about."""
        kept = []
        for entry in self._heap:
            timer = entry[2]
            if entry[0] != timer.entry:
                continue
            if timer.due < math.inf:
                kept.append(entry)
            else:
                timer.entry = math.inf
        self._heap[:] = kept
        heapq.heapify(self._heap)
        self._cancelled = 0

    def fire_due(self, now: float) -> None:
        """Fire everything that is due."""
        heap = self._heap
        fired = False
        while heap and heap[0][0] <= now:
            entry, _, timer = heapq.heappop(heap)
            if entry != timer.entry:
                continue  # it was set to an earlier time since, and has another entry
            timer.entry = math.inf
            if timer.due > now:
                if timer.due < math.inf:
                    self.set(timer, timer.due)
                continue
            timer.due = math.inf
            fired = True
            try:
                timer.fire(now)
            except Exception:  # noqa: BLE001 - one's bug must not keep the others from their time
                _log.exception("a timer failed")
        if fired:
            for turned in self.turned:
                turned(now)

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Fire what falls due, for ever."""
        task_status.started()
        while True:
            now = trio.current_time()
            due = min(now + TICK, self._heap[0][0] if self._heap else math.inf)
            with trio.CancelScope(deadline=due) as self._sleeping:
                await trio.sleep_forever()
            due, self._sleeping = self._sleeping.deadline, None
            now = trio.current_time()
            for ticked in self.ticked:
                ticked(now, now - due)
            self.fire_due(now)
