"""The registry's SQL: one row an instance, one row a daemon for its index."""

from collections.abc import Iterable
from typing import Any

import attrs
import sqlalchemy as sa

from econeura_daemon.core.instances import CheckKind
from econeura_daemon.core.jsons import dumps, loads
from econeura_daemon.registry.model import (
    Check,
    Endpoint,
    Health,
    Instance,
    Registration,
    Verdict,
)
from econeura_daemon.storage import Connection, Hot, tables

_instances = tables.instances
_registries = tables.registries

_COLUMNS = (
    "daemon_id", "id", "generation", "registered_at", "is_static", "registration", "endpoints", "draining",
    "expired", "stale", "verdict", "reason",
)  # fmt: skip
_PUT = Hot(
    sa.text(
        f"INSERT INTO instances ({', '.join(_COLUMNS)}) "  # noqa: S608 - constants
        f"VALUES ({', '.join(':' + name for name in _COLUMNS)}) ON CONFLICT (daemon_id, id) DO UPDATE SET "
        + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[2:])
    ),
    *_COLUMNS,
)
_PUT_HEALTH = Hot(
    sa.text(
        "UPDATE instances SET draining = :draining, expired = :expired, stale = :stale, verdict = :verdict, "
        "reason = :reason WHERE daemon_id = :daemon_id AND id = :id"
    ),
    "draining", "expired", "stale", "verdict", "reason", "daemon_id", "id",
)  # fmt: skip
_DELETE = Hot(sa.text("DELETE FROM instances WHERE daemon_id = :daemon_id AND id = :id"), "daemon_id", "id")
_SET_INDEX = Hot(
    sa.text(
        "INSERT INTO registries (daemon_id, newest_index) VALUES (:daemon_id, :newest_index) "
        "ON CONFLICT (daemon_id) DO UPDATE SET newest_index = excluded.newest_index"
    ),
    "daemon_id", "newest_index",
)  # fmt: skip


def load(connection: Connection, daemon_id: str) -> tuple[int, list[Instance]]:
    """Return the daemon's index (0: it never had a registry) and its instances."""
    index = connection.execute(
        sa.select(_registries.c.newest_index).where(_registries.c.daemon_id == daemon_id)
    ).scalar()
    rows = connection.execute(
        sa.select(_instances).where(_instances.c.daemon_id == daemon_id).order_by(_instances.c.id)
    )
    return index or 0, [_instance(row) for row in rows]


def set_index(connection: Connection, daemon_id: str, index: int) -> None:
    """Note how far the registry has come."""
    connection.run(_SET_INDEX, [(daemon_id, index)])


def put(connection: Connection, daemon_id: str, instance: Instance) -> None:
    """Write all of an instance."""
    said, health = instance.registration, instance.health
    row = (
        daemon_id,
        said.id,
        instance.generation,
        instance.registered_at,
        instance.is_static,
        dumps(_registration_json(said)).decode(),
        dumps([attrs.asdict(one) for one in instance.endpoints]).decode(),
        *_health_row(health),
    )
    connection.run(_PUT, [row])


def put_health(connection: Connection, daemon_id: str, instance: Instance) -> None:
    """Write what an instance's status is made of."""
    connection.run(_PUT_HEALTH, [(*_health_row(instance.health), daemon_id, instance.id)])


def delete(connection: Connection, daemon_id: str, instance_id: str) -> None:
    """Remove an instance."""
    connection.run(_DELETE, [(daemon_id, instance_id)])


def _health_row(health: Health) -> Iterable[Any]:
    verdict = None if health.verdict is None else health.verdict.value
    return health.draining, health.expired, health.stale, verdict, health.reason


def _registration_json(said: Registration) -> dict[str, Any]:
    document = attrs.asdict(said, recurse=False)
    if said.check is not None:
        document["check"] = attrs.asdict(said.check)
    return document


def _instance(row: sa.Row[Any]) -> Instance:
    document = loads(row.registration.encode())
    document["tags"] = tuple(document["tags"])
    if document["check"] is not None:
        document["check"]["kind"] = CheckKind(document["check"]["kind"])
        document["check"] = Check(**document["check"])
    return Instance(
        registration=Registration(**document),
        generation=row.generation,
        registered_at=row.registered_at,
        is_static=bool(row.is_static),
        endpoints=tuple(Endpoint(**one) for one in loads(row.endpoints.encode())),
        health=Health(
            draining=bool(row.draining),
            expired=bool(row.expired),
            stale=bool(row.stale),
            verdict=None if row.verdict is None else Verdict(row.verdict),
            reason=row.reason,
        ),
    )
