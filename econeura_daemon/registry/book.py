"""The registry as it is written: every change is a part of a transaction, with its event.

The book is kept in the writer's thread, where works run one after the other, and is ahead of what is committed by
what is being committed. So a change is decided on what the one before it left, without a lock and without asking
the database, and a group of them shares a commit. What is undone there is undone here.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any

import attrs

from econeura_daemon.core.clock import Clock, from_ms
from econeura_daemon.core.errors import ConflictError, NotFoundError, RegistryFullError
from econeura_daemon.core.ids import new_id
from econeura_daemon.events import Event, EventLog
from econeura_daemon.registry import store as sql
from econeura_daemon.registry.model import (
    Change,
    Declaration,
    Endpoint,
    Health,
    Instance,
    Registration,
    Status,
)
from econeura_daemon.storage import Connection

SOURCE = "registry"
"""Of the events ``service.*``."""


NOT_DECLARED = "the configuration declares it no more"


@attrs.frozen
class Registered:
    """What became of a registration."""

    instance: Instance
    replaced: bool


class Book:
    """Works call its methods; nothing else does. `applied` hears of each change on the loop, once committed."""

    def __init__(
        self,
        *,
        daemon_id: str,
        log: EventLog,
        clock: Clock,
        rng: Random,
        applied: Callable[[Change], None],
        last_heartbeat: Callable[[str], int | None],
    ) -> None:
        self._daemon_id = daemon_id
        self._log = log
        self._clock = clock
        self._rng = rng
        self._applied = applied
        self._last_heartbeat = last_heartbeat
        self._index = 0
        self._instances: dict[str, Instance] = {}

    def open(self, connection: Connection) -> tuple[int, list[Instance]]:
        """Read what was kept; return the index from which this run goes on, and the instances.

        It is one more than any that was given out before: whoever comes with one of those is answered at once.
        """
        index, instances = sql.load(connection, self._daemon_id)
        self._index = index + 1
        self._instances = {instance.id: instance for instance in instances}
        sql.set_index(connection, self._daemon_id, self._index)
        return self._index, instances

    def register(
        self,
        connection: Connection,
        registration: Registration,
        endpoints: tuple[Endpoint, ...],
        now: int,
        *,
        is_static: bool = False,
        limit: int | None = None,
    ) -> Registered:
        """Enter an instance, or replace the one of its id. ``limit``: instances beyond which no other one is let in.

        Raises `ConflictError` where a registrant would replace one that the configuration declares,
        `RegistryFullError`.
        """
        before = self._instances.get(registration.id)
        if before is None and limit is not None and len(self._instances) >= limit:
            raise RegistryFullError(limit)
        if before is not None and not is_static:
            _refuse_if_static(before)
        health = Health()
        if before is not None:
            same = before.registration.is_probed_as(registration)
            health = Health(
                draining=before.health.draining,
                verdict=before.health.verdict if same else None,
                reason=before.health.reason if same else "",
            )
        index = self._next()
        after = Instance(
            registration=registration,
            generation=index,
            registered_at=now,
            is_static=is_static,
            endpoints=endpoints,
            health=health,
        )
        self._note(connection, index, before, after)
        sql.put(connection, self._daemon_id, after)
        shown, replaced = after.to_json(now), before is not None
        self._tell(connection, "service.registered", now, service=shown, replaced=replaced)
        if endpoints:
            self._tell_endpoints(connection, after, now)
        if before is not None:
            self._tell_status(connection, before, after, now)
        return Registered(after, replaced=replaced)

    def deregister(self, connection: Connection, instance_id: str, reason: str, now: int) -> Instance:
        """Remove an instance for good. Raises `NotFoundError`, `ConflictError` if it is static."""
        before = self._found(instance_id)
        _refuse_if_static(before)
        self._remove(connection, before, reason, now)
        return before

    def drain(self, connection: Connection, instance_id: str, now: int, *, draining: bool) -> Instance:
        """Begin or end maintenance. Raises `NotFoundError`."""
        before = self._found(instance_id)
        return self._set_health(connection, before, {"draining": draining}, now)

    def put_endpoints(
        self, connection: Connection, instance_id: str, endpoints: tuple[Endpoint, ...], now: int
    ) -> Instance:
        """Replace what the instance offers. Raises `NotFoundError`, `ConflictError` if it is static."""
        before = self._found(instance_id)
        _refuse_if_static(before)
        if before.endpoints == endpoints:
            return before
        after = attrs.evolve(before, endpoints=endpoints)
        self._note(connection, self._next(), before, after)
        sql.put(connection, self._daemon_id, after)
        self._tell_endpoints(connection, after, now)
        return after

    def set_health(
        self, connection: Connection, instance_id: str, generation: int, changes: Mapping[str, Any], now: int
    ) -> None:
        """Write what was found out about one registration; of one that is gone or replaced nothing is."""
        before = self._instances.get(instance_id)
        if before is not None and before.generation == generation:
            self._set_health(connection, before, changes, now)

    def remove_unhealthy(
        self, connection: Connection, instance_id: str, generation: int, reason: str, now: int
    ) -> None:
        """Remove a registration that was unhealthy for too long, if it still is."""
        before = self._instances.get(instance_id)
        if (
            before is not None
            and before.generation == generation
            and before.status is Status.UNHEALTHY
            and not before.is_static
        ):
            self._remove(connection, before, reason, now)

    def declare(self, connection: Connection, wanted: Sequence[Declaration], now: int) -> list[str]:
        """Let the static instances be those that are wanted; one that is as it is wanted is not touched.

        Returns the ids that registrants held until now.
        """
        by_id = {one.registration.id: one for one in wanted}
        names = {one.registration.server_name for one in wanted} - {None}
        for before in [one for one in self._instances.values() if one.is_static and one.id not in by_id]:
            name = before.registration.server_name
            gone = f"the name {name!r} has this address no more" if name in names else NOT_DECLARED
            self._remove(connection, before, gone, now)
        taken = []
        for key, one in by_id.items():
            there = self._instances.get(key)
            if there is not None and not there.is_static:
                taken.append(key)
            if there is None or not there.is_declared_as(one):
                self.register(connection, one.registration, one.endpoints, now, is_static=True)
        return taken

    def _set_health(
        self, connection: Connection, before: Instance, changes: Mapping[str, Any], now: int
    ) -> Instance:
        health = attrs.evolve(before.health, **changes)
        if health == before.health:
            return before
        after = before.with_health(health)
        self._note(connection, self._next(), before, after)
        sql.put_health(connection, self._daemon_id, after)
        self._tell_status(connection, before, after, now)
        return after

    def _remove(self, connection: Connection, before: Instance, reason: str, now: int) -> None:
        self._note(connection, self._next(), before, None)
        sql.delete(connection, self._daemon_id, before.id)
        self._tell(connection, "service.deregistered", now, service=self._shown(before), reason=reason)

    def _found(self, instance_id: str) -> Instance:
        found = self._instances.get(instance_id)
        if found is None:
            raise NotFoundError("service", instance_id)
        return found

    def _next(self) -> int:
        """Return the next index; one whose work is undone is never given out again."""
        self._index += 1
        return self._index

    def _note(
        self, connection: Connection, index: int, before: Instance | None, after: Instance | None
    ) -> None:
        change = Change(index, before, after)
        key = change.instance.id
        connection.on_rollback(partial(self._enter, key, before))
        self._enter(key, after)
        sql.set_index(connection, self._daemon_id, index)
        connection.after_commit(partial(self._applied, change))

    def _enter(self, key: str, instance: Instance | None) -> None:
        if instance is None:
            self._instances.pop(key, None)
        else:
            self._instances[key] = instance

    def _tell_status(self, connection: Connection, before: Instance, after: Instance, now: int) -> None:
        if before.status is not after.status:
            self._tell(
                connection,
                "service.status_changed",
                now,
                service=self._shown(after),
                previousStatus=before.status.value,
                newStatus=after.status.value,
                reason=after.reason,
            )

    def _tell_endpoints(self, connection: Connection, instance: Instance, now: int) -> None:
        self._tell(
            connection,
            "service.endpoints_registered",
            now,
            service=self._shown(instance),
            endpoints=[one.to_json() for one in instance.endpoints],
        )

    def _shown(self, instance: Instance) -> dict[str, Any]:
        return instance.to_json(self._last_heartbeat(instance.id))

    def _tell(self, connection: Connection, event_type: str, now: int, **data: Any) -> None:
        instant = from_ms(now)
        event = Event.make(
            id=new_id("evt", instant, self._rng), type=event_type, data=data, now=instant, source=SOURCE
        )
        self._log.append(connection, event)


def _refuse_if_static(instance: Instance) -> None:
    if instance.is_static:
        raise ConflictError(
            f"The service {instance.id!r} is declared in the configuration ([[services]]): change it there"
        )
