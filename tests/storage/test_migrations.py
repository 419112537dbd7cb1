"""The schema that migrations make is the one that the tables tell."""

import sqlite3
from contextlib import closing
from hashlib import sha256

import psycopg
import pytest
import sqlalchemy as sa
import trio

from econeura_daemon.core.errors import StoreTooNewError
from econeura_daemon.core.settings import StorageSettings
from econeura_daemon.registry.store import load
from econeura_daemon.storage import migrations, open_store
from econeura_daemon.storage.migrations import MIGRATIONS, Migration, migrate
from econeura_daemon.storage.tables import metadata
from tests.storage.works import keys, put

OF_SQLITE = """
    SELECT m.name, x.cid, x.name, upper(x.type), x."notnull" OR (x.pk AND m.wr), trim(x.dflt_value, ''''), x.pk
    FROM pragma_table_list m JOIN pragma_table_xinfo(m.name) x
    WHERE m.schema = 'main' AND m.name NOT LIKE 'sqlite%' AND m.name <> 'schema_migrations' ORDER BY 1, 2
"""
TABLES_OF_SQLITE = """
    SELECT name, wr FROM pragma_table_list
    WHERE name NOT LIKE 'sqlite%' AND name <> 'schema_migrations' ORDER BY 1
"""
INDEXES_OF_SQLITE = """
    SELECT m.name, CASE l.origin WHEN 'c' THEN l.name END, l."unique", l.origin, l.partial,
           (SELECT group_concat(i.name) FROM pragma_index_info(l.name) i),
           (SELECT substr(s.sql, instr(s.sql, 'WHERE')) FROM sqlite_master s WHERE s.name = l.name AND l.partial)
    FROM sqlite_master m JOIN pragma_index_list(m.name) l
    WHERE m.type = 'table' AND m.name <> 'schema_migrations' ORDER BY 1, 2, 6
"""
OF_POSTGRESQL = """
    SELECT table_name, ordinal_position, column_name, data_type, is_nullable, column_default
    FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name <> 'schema_migrations' ORDER BY 1, 2
"""
INDEXES_OF_POSTGRESQL = """
    SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'schema_migrations' ORDER BY 1
"""

NEXT = len(MIGRATIONS) + 1
RELEASED = {1: "036873ad70f2bb88", 2: "e52c7097ff3b137a", 3: "04888bda19b9580a", 4: "7a17597dff42bb67"}
"""The beginnings of SHA-256 of every migration's text."""


def sqlite_schema(driver):
    return {
        query: driver.execute(query).fetchall() for query in (TABLES_OF_SQLITE, OF_SQLITE, INDEXES_OF_SQLITE)
    }


def autoincrements(driver):
    return driver.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'").fetchall()


def test_migrations_make_the_tables_on_sqlite(tmp_path):
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as migrated:
        assert migrate(lambda text: migrated.execute(text).fetchall(), "sqlite") == (0, len(MIGRATIONS))
        engine = sa.create_engine(f"sqlite:///{tmp_path}/told.db")
        metadata.create_all(engine)
        engine.dispose()
        with closing(sqlite3.connect(tmp_path / "told.db")) as told:
            assert sqlite_schema(migrated) == sqlite_schema(told)
            assert autoincrements(migrated) == autoincrements(told)


@pytest.mark.postgres
def test_migrations_make_the_tables_on_postgresql(postgres_url, postgres_cluster):
    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(postgres_url))
    metadata.create_all(engine)

    def schema(connection):
        return [connection.execute(query).fetchall() for query in (OF_POSTGRESQL, INDEXES_OF_POSTGRESQL)]

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        told = schema(connection)
        metadata.drop_all(engine)
        engine.dispose()

        def execute(text):
            cursor = connection.execute(text)
            return cursor.fetchall() if cursor.description else ()

        assert migrate(execute, "postgresql") == (0, len(MIGRATIONS))
        assert schema(connection) == told


@pytest.mark.postgres
async def test_daemons_that_start_at_once_migrate_once(postgres_url, tmp_path):
    settings = StorageSettings(url=postgres_url, readers=1)
    opened = []

    async def start():
        async with open_store(settings, tmp_path) as store:
            opened.append(await store.transact(put(f"{len(opened)}-{id(store)}")))

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(start)
    async with open_store(settings, tmp_path) as store:
        assert len(await store.read(keys)) == 6
        versions = sa.text("SELECT version FROM schema_migrations")
        assert await store.read(lambda connection: list(connection.execute(versions))) == [
            (migration.version,) for migration in MIGRATIONS
        ]


async def test_a_migration_that_fails_changes_nothing_and_a_later_start_completes_it(database, monkeypatch):
    async with database.open() as store:
        await store.transact(put("a"))
    broken = Migration(NEXT, "broken", "CREATE TABLE further (id TEXT);\nCREATE TABLE nonsense nonsense;\n")
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, broken))
        patch.setattr(migrations, "NEWEST", NEXT)
        with pytest.raises(Exception, match="nonsense"):
            async with database.open():
                pass
    mended = Migration(NEXT, "mended", "CREATE TABLE further (id TEXT, body {bytes});\n")
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, mended))
        patch.setattr(migrations, "NEWEST", NEXT)
        async with database.open() as store:
            assert await store.read(keys) == ["a"]
            further = sa.text("SELECT count(*) FROM further")
            assert await store.read(lambda connection: connection.execute(further).scalar()) == 0
    with pytest.raises(StoreTooNewError, match=f"schema {NEXT}"):  # and the older program keeps off
        async with database.open():
            pass


async def test_a_store_of_the_code_before_the_registry_opens_and_keeps_what_is_in_it(database, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", MIGRATIONS[:1])
        patch.setattr(migrations, "NEWEST", 1)
        async with database.open() as store:
            await store.transact(put("a"))
    names = sa.text("SELECT version, name FROM schema_migrations ORDER BY version")
    for _ in range(2):  # by the start after that it has happened
        async with database.open() as store:
            assert await store.read(keys) == ["a"]
            assert await store.read(lambda connection: load(connection, "dmn_1")) == (0, [])
            assert (await store.read(lambda connection: list(connection.execute(names))))[:2] == [
                (1, "events and webhooks"),
                (2, "registry"),
            ]


def test_the_text_of_a_migration_is_never_changed():
    texts = {one.version: one.statements.encode() for one in MIGRATIONS}
    assert {version: sha256(text).hexdigest()[:16] for version, text in texts.items()} == RELEASED


def test_migrations_are_numbered_without_a_gap():
    assert [migration.version for migration in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))
