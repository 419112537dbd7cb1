"""Fan-out: in the transaction that commits an event, a delivery for each subscription that wants it.

With room in its lane a delivery is born claimed, its first attempt written as started: no second commit stands
between the answer to the publisher and the send. The rest waits in the store.
"""

from collections.abc import Callable, Sequence
from functools import partial
from random import Random

import attrs

from econeura_daemon.core.clock import to_ms
from econeura_daemon.core.ids import new_id
from econeura_daemon.events import Event, TooManyDeliveriesError, candidates
from econeura_daemon.storage import Connection
from econeura_daemon.storage.model import Claimant
from econeura_daemon.webhooks.lanes import Lanes
from econeura_daemon.webhooks.model import Outgoing, Subscription
from econeura_daemon.webhooks.policies import Policies
from econeura_daemon.webhooks.store import claims, subscriptions
from econeura_daemon.webhooks.store.claims import Birth

MAX_CACHED_BYTES = 128 * 1024 * 1024
"""Of what is remembered: some 100,000 subscriptions. Beyond it all is forgotten, and read again on the way."""
SUBSCRIPTION_BYTES, ENTRY_BYTES, REFERENCE_BYTES = 800, 250, 8
"""What a subscription takes beside its texts, an event type or a pattern, and a subscription's place under it."""
PORTION = 1000
"""Deliveries that are gathered before they are written."""


class Matcher:
    """Finds the subscriptions of an event type; asks the store again only after one of them changed.

    The generation is read in each transaction, so a match is never older than the transaction it serves,
    whoever made the change: another work of the group, or another daemon.
    """

    def __init__(self, max_bytes: int = MAX_CACHED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._generation: str | None = None
        self._subscriptions: dict[str, Subscription] = {}
        self._wildcards: dict[str, Sequence[Subscription]] = {}
        self._matches: dict[str, Sequence[Subscription]] = {}
        self._size = 0

    def forget(self) -> None:
        """Remember nothing: what was read may have been undone. Safe from any thread."""
        self._generation = None

    def refresh(self, connection: Connection) -> None:
        """Forget what is older than the transaction; to be called in each before `match`."""
        generation = subscriptions.generation(connection)
        if generation != self._generation or self._size >= self._max_bytes:
            self._matches.clear()
            self._wildcards.clear()
            self._subscriptions.clear()
            self._size = 0
            self._generation = generation

    def match(self, connection: Connection, event_type: str) -> Sequence[Subscription]:
        """Return the active subscriptions that want events of this type, in the order of their ids."""
        found = self._matches.get(event_type)
        if found is None:
            exact, *wildcards = candidates(event_type)
            parts = [self._takers(connection, exact)]
            for pattern in wildcards:
                if pattern not in self._wildcards:
                    self._wildcards[pattern] = self._takers(connection, pattern)
                    self._size += ENTRY_BYTES + len(self._wildcards[pattern]) * REFERENCE_BYTES
                parts.append(self._wildcards[pattern])
            found = self._matches[event_type] = _union([part for part in parts if part])
            self._size += ENTRY_BYTES + len(found) * REFERENCE_BYTES
        return found

    def _takers(self, connection: Connection, pattern: str) -> Sequence[Subscription]:
        found = []
        for row in subscriptions.takers(connection, pattern):
            subscription = self._subscriptions.get(row[0])
            if subscription is None:
                subscription = self._subscriptions[row[0]] = subscriptions.from_row(row)
                self._size += SUBSCRIPTION_BYTES + sum(len(value) for value in row if isinstance(value, str))
            found.append(subscription)
        return found


def _union(parts: Sequence[Sequence[Subscription]]) -> Sequence[Subscription]:
    """Return who stands in any of the parts, once: a subscription may have several patterns that match."""
    if len(parts) < 2:
        return parts[0] if parts else ()
    by_id = {one.id: one for part in parts for one in part}
    return [by_id[key] for key in sorted(by_id)]


class SubscriptionFanOut:
    """The `events.FanOut` of webhooks. Called in the writer's thread."""

    def __init__(
        self,
        *,
        lanes: Lanes,
        claimant: Claimant,
        policies: Policies,
        rng: Random,
    ) -> None:
        self._lanes = lanes
        self._claimant = claimant
        self._policies = policies
        self._rng = rng
        self._matcher = Matcher()
        self._begin: Callable[[Sequence[Outgoing]], None] | None = None
        self._wake: Callable[[], None] | None = None

    def connect(self, begin: Callable[[Sequence[Outgoing]], None], wake: Callable[[], None]) -> None:
        """Hand deliveries that are born claimed to ``begin`` and call ``wake`` when something waits.

        Both are called on the event loop, after the commit. Until then the lanes give out no slots.
        """
        self._begin = begin
        self._wake = wake

    def __call__(self, connection: Connection, events: Sequence[Event], most: int | None) -> Sequence[int]:
        """Write down who is owed the events; return how many are, for each."""
        portion = _Portion()
        connection.on_rollback(partial(self._return, portion.outgoing))
        self._matcher.refresh(connection)
        counts, total = [], 0
        for event in events:
            takers = self._matcher.match(connection, event.type)
            if event.about is not None:
                takers = [taker for taker in takers if taker.id != event.about]
            counts.append(len(takers))
            total += len(takers)
            if most is not None and len(events) > 1 and total > most:
                raise TooManyDeliveriesError
            for subscription in takers:
                self._owe(event, subscription, portion)
            if len(portion.births) >= PORTION:
                self._insert(connection, portion)
        self._insert(connection, portion)
        if portion.outgoing:
            connection.after_commit(partial(self._send, portion.outgoing))
        if portion.waiting:
            connection.after_commit(partial(self._note, portion.waiting))
        return counts

    def _owe(self, event: Event, subscription: Subscription, portion: "_Portion") -> None:
        now = to_ms(event.occurred_at)
        limit = self._policies.max_in_flight(subscription)
        claimed = self._lanes.take(subscription.id, limit, now, self._policies.standing(subscription))
        birth = Birth(
            id=new_id("del", event.occurred_at, self._rng),
            event_id=event.id,
            event_type=event.type,
            subscription_id=subscription.id,
            max_attempts=self._policies.max_attempts(subscription),
            created_at=now,
            attempt_id=new_id("att", event.occurred_at, self._rng) if claimed else None,
        )
        portion.births.append(birth)
        if claimed:
            portion.outgoing.append(
                Outgoing(
                    delivery_id=birth.id,
                    event_id=event.id,
                    event_type=event.type,
                    body=event.body,
                    trace=event.trace,
                    subscription=subscription,
                    number=1,
                    max_attempts=birth.max_attempts,
                    created_at=now,
                )
            )
        else:
            portion.waiting.append((subscription.id, limit, now))

    def _insert(self, connection: Connection, portion: "_Portion") -> None:
        if portion.births:
            claims.insert(connection, portion.births, self._claimant)
            portion.births.clear()

    def _return(self, outgoing: Sequence[Outgoing]) -> None:
        self._matcher.forget()
        for one in outgoing:
            self._lanes.give(one.subscription.id)

    def _send(self, outgoing: Sequence[Outgoing]) -> None:
        assert self._begin is not None  # nothing is claimed before
        self._begin(outgoing)

    def _note(self, waiting: Sequence[tuple[str, int, int]]) -> None:
        for key, limit, due_at in waiting:
            self._lanes.waits(key, due_at, limit)
        if self._wake is not None:
            self._wake()


@attrs.define(eq=False)
class _Portion:
    """What a transaction owes, as far as it has got."""

    births: list[Birth] = attrs.field(factory=list)
    """Not written yet."""
    outgoing: list[Outgoing] = attrs.field(factory=list)
    waiting: list[tuple[str, int, int]] = attrs.field(factory=list)
    """Subscription, its limit, and when it is due."""
