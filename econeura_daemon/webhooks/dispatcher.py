"""The dispatcher: takes what is owed, sends it, records what came of it; again until nothing is owed.

Its loops find work; each attempt has a task to itself, of a nursery that outlives the loops, so that a loop that
is restarted cuts off no attempt. An attempt ends in one of three ways:

- an outcome: handed to the recorder, which writes it with the delivery's next state, and again until it can;
- cancelled by a drain that ran out of time: given back, as if it had never been;
- nobody comes back (kill, power cut): its claim is found by the next start, or by another daemon once the
  lease lapsed, and the attempt shows as unknown.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from functools import partial
from random import Random
from typing import Protocol

import trio

from econeura_daemon.core.clock import Clock, to_ms
from econeura_daemon.core.errors import StoreError
from econeura_daemon.core.ids import new_id
from econeura_daemon.storage import Connection, Store
from econeura_daemon.storage.model import Claimant
from econeura_daemon.webhooks.lanes import Lanes
from econeura_daemon.webhooks.model import AttemptOutcome, Outgoing, Subscription
from econeura_daemon.webhooks.policies import Policies
from econeura_daemon.webhooks.recorder import Ending, Recorder
from econeura_daemon.webhooks.schedule import Step
from econeura_daemon.webhooks.store import claims
from econeura_daemon.webhooks.task_pool import TaskPool

log = logging.getLogger(__name__)

CLAIM_BATCH = 200
"""Deliveries claimed in one transaction: enough to make its commit cheap, few enough to let others in between."""
LONGEST_SLEEP = 5.0
"""Seconds after which the loop looks at the clock again: a step of the wall clock is noticed by then."""
STORE_PAUSE = 1.0
"""Seconds to wait after the store refused a claim."""
CLOSING_SECONDS = 5.0
"""How long a cancelled attempt may take to give back its claim."""

Send = Callable[[Outgoing], Awaitable[AttemptOutcome]]


class Observer(Protocol):
    """What the dispatcher tells of each attempt, for the metrics."""

    def attempted(self, outgoing: Outgoing, outcome: AttemptOutcome, step: Step, now: int) -> None:
        """An attempt was recorded, and what follows it; ``now`` in milliseconds since the epoch."""
        ...


class Dispatcher:
    """Dispatches deliveries. Made by `open_dispatcher`."""

    def __init__(
        self,
        *,
        store: Store,
        lanes: Lanes,
        claimant: Claimant,
        policies: Policies,
        send: Send,
        recorder: Recorder,
        observer: Observer,
        clock: Clock,
        rng: Random,
        attempts: trio.Nursery,
    ) -> None:
        self._store = store
        self._lanes = lanes
        self._claimant = claimant
        self._policies = policies
        self._send = send
        self._recorder = recorder
        self._observer = observer
        self._clock = clock
        self._rng = rng
        self._attempts = TaskPool(attempts, self._attempt)
        self._under_way: dict[tuple[str, int], Outgoing] = {}
        self._closed = False
        self._wake = trio.Event()

    def __repr__(self) -> str:
        return f"<Dispatcher {len(self._under_way)} under way, {self._lanes.statistics()}>"

    @property
    def under_way(self) -> Collection[Outgoing]:
        """The attempts that are under way."""
        return self._under_way.values()

    def wake(self) -> None:
        """Look for due deliveries now. Call on the event loop."""
        self._wake.set()

    def resume(self, subscription: Subscription, due_at: int) -> None:
        """Note that something waits for a subscription. Call on the event loop."""
        limit, standing = self._policies.max_in_flight(subscription), self._policies.standing(subscription)
        self._lanes.waits(subscription.id, due_at, limit, standing)
        self.wake()

    def drain(self) -> None:
        """Claim nothing more; attempts under way go on. Safe from any thread."""
        self._lanes.close()

    def begin(self, outgoing: Sequence[Outgoing]) -> None:
        """Send deliveries that are claimed and whose slots are taken. Call on the event loop, after the commit."""
        if self._closed:  # the store was so slow that the drain did not wait for this commit
            log.warning("claims are left to the next start", extra={"deliveries": len(outgoing)})
            return
        for one in outgoing:
            self._under_way[one.delivery_id, one.number] = one
            self._attempts.start(one)

    def retire(self) -> None:
        """Let the tasks of attempts end once nothing is under way."""
        self._attempts.retire()

    def close(self) -> None:
        """Begin nothing more: the attempts were joined."""
        self._closed = True

    async def claim_loop(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Claim what is due, for ever."""
        task_status.started()
        while True:
            self._wake = trio.Event()
            now = to_ms(self._clock.now())
            wanted = self._lanes.take_due(now, CLAIM_BATCH)
            if wanted:
                await self._claim(wanted, now)
                continue
            due = self._lanes.next_due()
            pause = LONGEST_SLEEP if due is None else min(max((due - now) / 1000, 0), LONGEST_SLEEP)
            with trio.move_on_after(pause):
                await self._wake.wait()

    async def _claim(self, wanted: dict[str, int], now: int) -> None:
        instant = self._clock.now()
        attempt_ids = [new_id("att", instant, self._rng) for _ in range(sum(wanted.values()))]

        def work(connection: Connection) -> None:
            outgoing, due = claims.claim(connection, wanted, now, attempt_ids, self._claimant)
            # After the commit, in the order of the commits: what a later one leaves waiting is noted later.
            connection.after_commit(partial(self._claimed, wanted, outgoing, due))

        try:
            await self._store.transact(work)
        except StoreError as error:
            log.warning("the store refused a claim: %s", error)
            self._return(wanted)
            await trio.sleep(STORE_PAUSE)
        except Exception:  # a bug: the loop is restarted, and must find the lanes in order
            self._return(wanted)
            raise

    def _return(self, wanted: dict[str, int]) -> None:
        for key, slots in wanted.items():
            self._lanes.claim_failed(key, slots)

    def _claimed(
        self, wanted: dict[str, int], outgoing: Sequence[Outgoing], due: dict[str, int | None]
    ) -> None:
        unused = dict(wanted)
        for one in outgoing:
            unused[one.subscription.id] -= 1
        for key, due_at in due.items():
            self._lanes.claimed(key, due_at, unused[key])
        self.begin(outgoing)

    async def _attempt(self, one: Outgoing) -> None:
        """Make one attempt and hand its outcome to the recorder; whatever goes wrong with it stays here."""
        try:
            self._recorder.put(one, await self._send_one(one))
        except BaseException:
            self._end(one)
            raise

    def over(self, endings: Sequence[Ending], recorded: bool) -> None:  # noqa: FBT001 - the recorder's callback
        """Take note that the recorder is through with some attempts."""
        now = to_ms(self._clock.now())
        for ending in endings:
            if recorded:
                self._observer.attempted(ending.outgoing, ending.outcome, ending.step, now)
            self._end(ending.outgoing)

    def _end(self, one: Outgoing) -> None:
        if self._under_way.pop((one.delivery_id, one.number), None) is not None:
            self._lanes.give(one.subscription.id)
            self.wake()

    async def _send_one(self, one: Outgoing) -> AttemptOutcome:
        started = trio.current_time()
        try:
            return await self._send(one)
        except trio.Cancelled:
            with trio.move_on_after(CLOSING_SECONDS, shield=True):
                await self._give_back(one)
            raise
        except Exception as error:
            log.exception("the sender failed", extra={"delivery_id": one.delivery_id})
            lasted = trio.current_time() - started
            return AttemptOutcome(
                sent_at=self._clock.now() - timedelta(seconds=lasted),
                duration_ms=int(lasted * 1000),
                error=f"internal error: {type(error).__name__}",
            )

    async def _give_back(self, one: Outgoing) -> None:
        now = to_ms(self._clock.now())
        try:
            await self._store.transact(
                partial(claims.give_back, outgoing=[one], now=now, claimant=self._claimant)
            )
        except StoreError as error:
            log.warning("could not give a claim back: %s", error, extra={"delivery_id": one.delivery_id})
