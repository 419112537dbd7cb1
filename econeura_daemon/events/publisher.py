"""Publishing: wishes become events, all of one call in one transaction."""

from collections.abc import Callable, Sequence
from random import Random

from econeura_daemon.core.clock import Clock
from econeura_daemon.core.errors import Flaw, InvalidInputError
from econeura_daemon.core.ids import new_id
from econeura_daemon.events.log import EventLog, TooManyDeliveriesError
from econeura_daemon.events.model import Event, Published, PublishEvent
from econeura_daemon.storage import Connection, Joint, Store

MAX_DELIVERIES = 50_000
"""That one batch may make: it is one transaction, some 70 µs a delivery on two busy cores, and others
wait for it meanwhile.
"""

Also = Callable[[Connection, list[Published]], None]


class Publisher:
    """Takes events in; what it returned is committed, deliveries included."""

    def __init__(self, store: Store, log: EventLog, clock: Clock, rng: Random) -> None:
        self._store = store
        self._log = log
        self._clock = clock
        self._rng = rng

    async def publish(
        self, commands: Sequence[PublishEvent], *, trace: str | None = None, also: Also | None = None
    ) -> list[Published]:
        """Publish all or none, in order; return what became of each once it is committed.

        ``also`` runs in the same transaction, after the events were written; what it raises undoes them.
        Raises `InvalidInputError` and the `StoreError` of `core.errors`.
        """
        now = self._clock.now()
        events = [
            Event.make(
                id=command.id or new_id("evt", now, self._rng),
                type=command.type,
                data=command.data,
                source=command.source,
                version=command.version,
                now=now,
                trace=trace,
                given_id=command.id is not None,
            )
            for command in commands
        ]
        _refuse_repeats(commands)

        if len(events) == 1 and also is None:
            return [await self.append(events[0])]

        def write(connection: Connection) -> list[Published]:
            try:
                published = self._log.append_all(connection, events, most=MAX_DELIVERIES)
            except TooManyDeliveriesError:
                raise InvalidInputError.at(
                    "$.events",
                    f"these {len(events)} events make more than {MAX_DELIVERIES} deliveries, "
                    "which would hold up everybody else; publish fewer at once",
                ) from None
            if also is not None:
                also(connection, published)
            return published

        return await self._store.ingest(write)

    async def append(self, event: Event) -> Published:
        """Publish an event that is written down already. Raises the `StoreError` of `core.errors`."""
        return await self._store.ingest(Joint(self._append, event))

    def _append(self, connection: Connection, events: Sequence[Event]) -> list[Published]:
        return self._log.append_all(connection, events)


def _refuse_repeats(commands: Sequence[PublishEvent]) -> None:
    """One batch names an id once: which of two would be the first is anyone's guess."""
    if len(commands) == 1:
        return
    seen: dict[str, int] = {}
    flaws = []
    for index, command in enumerate(commands):
        if command.id is None:
            continue
        if command.id in seen:
            flaws.append(
                Flaw(f"$.events[{index}].id", f"the same id as $.events[{seen[command.id]}]: {command.id!r}")
            )
        else:
            seen[command.id] = index
    if flaws:
        raise InvalidInputError(flaws)
