"""A connection to PostgreSQL: hot statements go out in a pipeline, the rest through SQLAlchemy Core."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, LiteralString

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import make_conninfo

from econeura_daemon.storage.dialect import POSTGRESQL
from econeura_daemon.storage.hot import Hot
from econeura_daemon.storage.works import Notes

CHANNEL = "econeura"
"""The channel of ``NOTIFY``; the payload is the announcing store's name, a blank, and the topic."""

IN_USE = "econeura-daemon in use"
"""The name of the advisory lock that every running daemon shares, and that a restore needs alone."""

_DEFAULTS = {
    "connect_timeout": 5,  # s
    # A server that vanished is noticed after some 15 s: the pipeline waits for its answer without a limit of
    # its own.
    "keepalives_idle": 5,  # s
    "keepalives_interval": 3,  # s
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # ms
    "fallback_application_name": "econeura-daemon",
}

_SESSION = (
    # Who waits longer for a lock than this has met a daemon that hangs; its transaction ends by the last
    # line.
    "SET lock_timeout = '10s'; SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '10s'"
)


def connect(conninfo: str) -> psycopg.Connection[Any]:
    """Connect without transaction handling of the driver's own. ``conninfo`` wins over our defaults."""
    given = psycopg.conninfo.conninfo_to_dict(conninfo)
    defaults: dict[str, Any] = {name: value for name, value in _DEFAULTS.items() if name not in given}
    driver = psycopg.connect(make_conninfo(conninfo, **defaults), autocommit=True)
    try:
        driver.execute(_SESSION)
    except BaseException:
        driver.close()
        raise
    return driver


def core_engine(conninfo: str) -> sa.Engine:
    """Return a SQLAlchemy engine that leaves transactions alone: we begin and commit on the driver."""
    return sa.create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect(conninfo),
        poolclass=sa.NullPool,
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT",
        use_native_hstore=False,
    )


class PostgresqlConnection(Notes):
    """A `Connection` on PostgreSQL."""

    backend = POSTGRESQL

    def __init__(self, core: sa.Connection) -> None:
        self._core = core
        driver = core.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        self.driver: psycopg.Connection[Any] = driver
        # A new cursor costs as much as a statement. In a pipeline the answers to all that a cursor sent arrive on it
        # one after the other, so what is read needs a cursor apart from what is only sent.
        self._sending = driver.cursor()
        self._asking = driver.cursor()
        self._pipeline = ExitStack()
        self._in_pipeline = False
        self.wrote = False
        """Whether the present work may have changed something."""

    def begin(self, *, read_only: bool = False) -> None:
        """Begin a transaction, without waiting for it."""
        self._send("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" if read_only else "BEGIN")

    def look_alive(self) -> None:
        """Raise if the connection is known to be gone: what is sent only now cannot have arrived."""
        self.driver.pgconn.consume_input()  # the server's last words, if it closed the connection
        self.driver.pgconn.consume_input()  # and the end behind them

    def commit(self) -> None:
        """Commit, and wait until everything is answered."""
        committed = self._send("COMMIT")
        self.leave_pipeline()
        if committed.statusmessage != "COMMIT":  # the server answers ROLLBACK, and no error, after an error
            raise RuntimeError("a work went on after an error of the database, so its transaction is lost")

    def end(self) -> None:
        """End a transaction that only read. Raises what its statements raised meanwhile."""
        self._send("ROLLBACK")
        self.leave_pipeline()

    def roll_back(self) -> None:
        """Roll back, whatever happened before."""
        with suppress(psycopg.Error):
            self.leave_pipeline()
        self.driver.execute("ROLLBACK")

    def execute(
        self,
        statement: sa.Executable,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> sa.CursorResult[Any]:
        """See `Connection.execute`."""
        self.wrote = self.wrote or not isinstance(statement, sa.Select)
        self.leave_pipeline()  # SQLAlchemy looks at the result at once
        return self._core.execute(statement, parameters)

    def run(self, hot: Hot, rows: Iterable[Sequence[Any]]) -> None:
        """See `Connection.run`."""
        self.wrote = True
        compiled = hot.compiled(POSTGRESQL)
        self._enter_pipeline()
        text, send = compiled.text, self._sending.execute
        for row in rows if compiled.arrange is None else map(compiled.arrange, rows):
            send(text, row, prepare=True)

    def rows(self, hot: Hot, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """See `Connection.rows`."""
        self.wrote = self.wrote or not isinstance(hot.statement, sa.Select)
        compiled = hot.compiled(POSTGRESQL)
        arranged = parameters if compiled.arrange is None else compiled.arrange(parameters)
        self._enter_pipeline()
        self._asking.execute(compiled.text, arranged, prepare=True)
        return self._asking.fetchall()

    def lock(self, name: str) -> None:
        """See `Connection.lock`: what follows waits behind it on the server."""
        self._enter_pipeline()
        self._sending.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (name,), prepare=True)

    def notify(self, payload: str) -> None:
        """Notify every daemon, once this transaction is committed."""
        self._enter_pipeline()
        self._sending.execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload))

    def _send(self, text: LiteralString) -> psycopg.Cursor[Any]:
        self._enter_pipeline()
        cursor = self.driver.cursor()
        cursor.execute(text)
        return cursor

    def _enter_pipeline(self) -> None:
        if not self._in_pipeline:
            self._pipeline.enter_context(self.driver.pipeline())
            self._in_pipeline = True

    def leave_pipeline(self) -> None:
        """Wait for all answers. Raises the first error among them."""
        if self._in_pipeline:
            self._in_pipeline = False
            self._pipeline.close()

    @property
    def lost(self) -> bool:
        """Whether the connection is gone."""
        return self.driver.closed

    def close(self) -> None:
        """Close the connection; never raises."""
        with suppress(psycopg.Error):
            self.leave_pipeline()
        with suppress(sa.exc.SQLAlchemyError, psycopg.Error):
            self._core.invalidate()  # closes the driver's connection without a word to the server before
        with suppress(sa.exc.SQLAlchemyError, psycopg.Error):
            self._core.close()
        self.driver.close()
