"""Writes down what came of an attempt: the attempt, its delivery, and what it says about the subscription."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

import attrs
import trio

from econeura_daemon.core.clock import Clock, to_ms
from econeura_daemon.core.errors import StoreError
from econeura_daemon.core.ids import new_id
from econeura_daemon.events import Event, EventLog
from econeura_daemon.storage import Connection, Store
from econeura_daemon.storage.model import Claimant
from econeura_daemon.webhooks.lanes import Lanes
from econeura_daemon.webhooks.model import AttemptOutcome, DeliveryStatus, Outgoing
from econeura_daemon.webhooks.policies import Policies
from econeura_daemon.webhooks.schedule import Delivered, Failed, RetryAt, Step, next_step
from econeura_daemon.webhooks.store import claims, subscriptions

log = logging.getLogger(__name__)

OVERLOADED = frozenset({429, 502, 503, 504})
"""Answers that halve a subscription's attempts in flight; silence does too."""
LAST_DELIVERY_EVERY = 1000
"""Milliseconds between updates of a healthy subscription's ``last_delivery_at``: not one a delivery."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between tries to record while the store refuses."""
CLOSING_SECONDS = 5.0
ABOUT_WEBHOOKS = "webhook."
SYSTEM_SOURCE = "econeura-daemon"


@attrs.frozen(eq=False)
class Ending:
    """An attempt that ended, and what follows it; ``at`` in milliseconds since the epoch."""

    outgoing: Outgoing
    outcome: AttemptOutcome
    step: Step
    at: int


class Recorder:
    """Records outcomes, in one work all that came since the last one.

    A store that refuses is asked until it takes them: an outcome is not to be lost.
    """

    def __init__(
        self,
        *,
        store: Store,
        events: EventLog,
        lanes: Lanes,
        policies: Policies,
        claimant: Claimant,
        clock: Clock,
        rng: Random,
    ) -> None:
        self._store = store
        self._events = events
        self._lanes = lanes
        self._policies = policies
        self._claimant = claimant
        self._clock = clock
        self._rng = rng
        self._healthy_since: dict[str, int] = {}
        self._endings: list[Ending] = []
        self._nursery: trio.Nursery | None = None
        self._over: Callable[[Sequence[Ending], bool], None] | None = None

    def connect(self, nursery: trio.Nursery, over: Callable[[Sequence[Ending], bool], None]) -> None:
        """Record in ``nursery``, and call ``over`` for endings: whether they were recorded.

        Cancelled, what was put still has some seconds to be recorded.
        """
        self._nursery = nursery
        self._over = over

    def put(self, outgoing: Outgoing, outcome: AttemptOutcome) -> None:
        """Record an outcome soon. Call from a task of the nursery."""
        if self._endings:
            now = self._endings[-1].at  # they all came in one pass of the loop
        else:
            now = to_ms(self._clock.now())
            assert self._nursery is not None
            self._nursery.start_soon(self._record, name="record outcomes")
        policy = self._policies.retry(outgoing.subscription)
        step = next_step(outcome, outgoing.number, outgoing.max_attempts, policy, now, self._rng)
        self._endings.append(Ending(outgoing, outcome, step, now))

    async def _record(self) -> None:
        """Record what was put up to now."""
        endings, self._endings = self._endings, []
        try:
            await self._record_all(endings)
        except trio.Cancelled:
            # A second time does no harm: the claims are gone then.
            with trio.move_on_after(CLOSING_SECONDS, shield=True):
                await self._record_all(endings)
            raise

    async def _record_all(self, endings: Sequence[Ending]) -> None:
        try:
            await self._until_written(endings)
        except Exception:
            if len(endings) == 1:
                log.exception("an attempt went unrecorded", extra=_named(endings[0]))
                self._tell(endings, recorded=False)
                return
            for ending in endings:  # the others shall not suffer for one
                await self._record_all([ending])
        else:
            for ending in endings:
                self._adapt(ending)
            self._tell(endings, recorded=True)

    def _tell(self, endings: Sequence[Ending], *, recorded: bool) -> None:
        assert self._over is not None
        self._over(endings, recorded)

    async def _until_written(self, endings: Sequence[Ending]) -> None:
        work = partial(self._write, endings=endings)
        pause = FIRST_PAUSE
        while True:
            try:
                await self._store.transact(work)
            except StoreError as error:
                log.warning("%d outcomes wait for the store: %s", len(endings), error)
                await trio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                return

    def _write(self, connection: Connection, *, endings: Sequence[Ending]) -> None:
        claims.record(
            connection, [(e.outgoing, e.outcome, *_state_after(e.step)) for e in endings], self._claimant
        )
        for ending in endings:
            self._note(connection, ending)

    def _note(self, connection: Connection, ending: Ending) -> None:
        """Write down what the outcome says of the subscription."""
        key = ending.outgoing.subscription.id
        match ending.step:
            case Delivered():
                if ending.at - self._healthy_since.get(key, 0) >= LAST_DELIVERY_EVERY:
                    subscriptions.note_success(connection, key, ending.at)
                    connection.after_commit(partial(self._healthy_since.__setitem__, key, ending.at))
            case RetryAt(at_ms):
                self._note_failure(connection, key, ending.at)
                limit = self._policies.max_in_flight(ending.outgoing.subscription)
                connection.after_commit(partial(self._lanes.waits, key, at_ms, limit))
            case Failed(_, disable):
                self._note_failure(connection, key, ending.at)
                if disable:
                    self._disable(connection, ending.outgoing, ending.at)

    def _note_failure(self, connection: Connection, key: str, now: int) -> None:
        subscriptions.note_failure(connection, key, now)
        connection.after_commit(partial(self._forget_health, key))

    def _forget_health(self, key: str) -> None:
        self._healthy_since.pop(key, None)

    def _disable(self, connection: Connection, outgoing: Outgoing, now: int) -> None:
        """The receiver said 410: it wants nothing more. What waits is held, as in any pause."""
        instant = self._clock.now()
        reason = "the receiver answered 410 Gone"
        key = outgoing.subscription.id
        token = new_id("gen", instant, self._rng)
        if not subscriptions.disable(connection, outgoing.subscription, reason, now, token):
            return
        if outgoing.event_type.startswith(ABOUT_WEBHOOKS):
            return  # failing to deliver such an event makes no further one: N of them would make N²
        event = Event.make(
            id=new_id("evt", instant, self._rng),
            type="webhook.subscription_disabled",
            data={"subscriptionId": key, "url": outgoing.subscription.url, "reason": reason},
            source=SYSTEM_SOURCE,
            now=instant,
            about=key,
        )
        self._events.append(connection, event)

    def _adapt(self, ending: Ending) -> None:
        key, outcome = ending.outgoing.subscription.id, ending.outcome
        if outcome.succeeded:
            self._lanes.succeeded(key)
        else:
            silent = outcome.status_code is None and not outcome.refused
            self._lanes.failed(key, overloaded=silent or outcome.status_code in OVERLOADED)


def _state_after(step: Step) -> tuple[DeliveryStatus, int | None]:
    """Return a delivery's status after an attempt, and when the next one is due."""
    match step:
        case Delivered():
            return DeliveryStatus.DELIVERED, None
        case RetryAt(at_ms):
            return DeliveryStatus.RETRYING, at_ms
        case Failed():
            return DeliveryStatus.FAILED, None


def _named(ending: Ending) -> dict[str, str]:
    return {"delivery_id": ending.outgoing.delivery_id}
