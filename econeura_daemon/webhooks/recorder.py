"""Writes down what came of an attempt: the attempt, its delivery, and what it says about the subscription."""

import logging
from functools import partial
from random import Random

import trio

from econeura_daemon.core.clock import Clock, to_ms
from econeura_daemon.core.errors import StoreError
from econeura_daemon.core.ids import new_id
from econeura_daemon.events import Event, EventLog
from econeura_daemon.storage import Connection, Store, Work
from econeura_daemon.webhooks.lanes import Lanes
from econeura_daemon.webhooks.model import AttemptOutcome, DeliveryStatus, Outgoing
from econeura_daemon.webhooks.policies import Policies
from econeura_daemon.webhooks.schedule import Delivered, Failed, RetryAt, Step, next_step
from econeura_daemon.webhooks.store import claims, subscriptions
from econeura_daemon.webhooks.store.claims import Claimant

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


class Recorder:
    """Records outcomes. A store that refuses is asked until it takes them: an outcome is not to be lost."""

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

    async def record(self, outgoing: Outgoing, outcome: AttemptOutcome) -> Step:
        """Return what follows once the outcome is committed. Cancelled, it still has some seconds to get there."""
        now = to_ms(self._clock.now())
        policy = self._policies.retry(outgoing.subscription)
        step = next_step(outcome, outgoing.number, outgoing.max_attempts, policy, now, self._rng)
        work = partial(self._write, outgoing=outgoing, outcome=outcome, step=step, now=now)
        try:
            await self._until_written(work, outgoing)
        except trio.Cancelled:
            # A second time does no harm: the claim is gone then.
            with trio.move_on_after(CLOSING_SECONDS, shield=True):
                await self._until_written(work, outgoing)
            raise
        self._adapt(outgoing, outcome)
        return step

    async def _until_written(self, work: Work[None], outgoing: Outgoing) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                await self._store.transact(work)
            except StoreError as error:
                log.warning(
                    "an outcome waits for the store: %s", error, extra={"delivery_id": outgoing.delivery_id}
                )
                await trio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                return

    def _write(
        self, connection: Connection, *, outgoing: Outgoing, outcome: AttemptOutcome, step: Step, now: int
    ) -> None:
        key = outgoing.subscription.id
        match step:
            case Delivered():
                status, next_at = DeliveryStatus.DELIVERED, None
                if now - self._healthy_since.get(key, 0) >= LAST_DELIVERY_EVERY:
                    subscriptions.note_success(connection, key, now)
                    connection.after_commit(partial(self._healthy_since.__setitem__, key, now))
            case RetryAt(at_ms):
                status, next_at = DeliveryStatus.RETRYING, at_ms
                self._note_failure(connection, key, now)
                limit = self._policies.max_in_flight(outgoing.subscription)
                connection.after_commit(partial(self._lanes.waits, key, at_ms, limit))
            case Failed(_, disable):
                status, next_at = DeliveryStatus.FAILED, None
                self._note_failure(connection, key, now)
                if disable:
                    self._disable(connection, outgoing, now)
        claims.record(
            connection,
            outgoing,
            outcome,
            status=status,
            next_attempt_at=next_at,
            claimant=self._claimant,
        )

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

    def _adapt(self, outgoing: Outgoing, outcome: AttemptOutcome) -> None:
        if outcome.succeeded:
            self._lanes.succeeded(outgoing.subscription.id)
        else:
            silent = outcome.status_code is None and not outcome.refused
            self._lanes.failed(
                outgoing.subscription.id, overloaded=silent or outcome.status_code in OVERLOADED
            )
