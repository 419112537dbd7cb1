"""Announcements of other daemons: a thread that listens on a connection of its own."""

import logging
import selectors
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import psycopg
import trio

from econeura_daemon.storage.postgresql_connection import CHANNEL, IN_USE, connect
from econeura_daemon.storage.postgresql_errors import translate

BACKOFF_SECONDS = 1.0
"""Between two attempts to listen again; what is announced meanwhile is made up for by waking everybody."""

_log = logging.getLogger(__name__)


class Listener:
    """Wakes watches for what others announce, from `open` until `stop`."""

    def __init__(
        self,
        conninfo: str,
        name: str,
        wake: Callable[[Iterable[str]], None],
        wake_all: Callable[[], None],
    ) -> None:
        self._conninfo = conninfo
        self._name = name
        self._wake = wake
        self._wake_all = wake_all
        self._token = trio.lowlevel.current_trio_token()
        self._stop_here, self._stop_there = socket.socketpair()
        self._connection: psycopg.Connection[Any] | None = None
        self._thread = threading.Thread(target=self._run, name="store-listener", daemon=True)

    def open(self) -> None:
        """Start to listen: what is announced from now on wakes watches. Blocks; raises `StoreError`."""
        try:
            self._connection = self._connect()
        except psycopg.Error as error:
            raise translate(error) from error
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Blocks, though not for long."""
        if self._thread.is_alive():
            self._stop_here.send(b"x")
            self._thread.join()
        self._stop_here.close()
        self._stop_there.close()

    def _connect(self) -> psycopg.Connection[Any]:
        connection = connect(self._conninfo)
        try:
            connection.execute("SELECT pg_advisory_lock_shared(hashtext(%s))", (IN_USE,))
            connection.execute(f"LISTEN {CHANNEL}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _run(self) -> None:
        try:
            while True:
                try:
                    if self._connection is None:
                        self._connection = self._connect()
                        self._tell(self._wake_all)  # something may have been announced meanwhile
                    if self._pass_on(self._connection):
                        return
                except psycopg.Error as error:
                    _log.warning("Announcements of other daemons do not arrive at present: %s", error)
                    self._close()
                if self._stopping(BACKOFF_SECONDS):
                    return
        finally:
            self._close()

    def _pass_on(self, connection: psycopg.Connection[Any]) -> bool:
        """Pass on what is announced until told to stop; True then. Raises when the connection is lost."""
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), selectors.EVENT_READ)
            selector.register(self._stop_there, selectors.EVENT_READ)
            while True:
                topics = [
                    topic for topic in map(self._foreign_topic, connection.notifies(timeout=0)) if topic
                ]
                if topics:
                    self._tell(self._wake, topics)
                ready = [key.fileobj for key, _ in selector.select()]
                if self._stop_there in ready:
                    return True

    def _foreign_topic(self, notification: psycopg.Notify) -> str:
        """Return the topic, empty for our own announcement: its watches are awake already."""
        name, _, topic = notification.payload.partition(" ")
        return "" if name == self._name else topic

    def _stopping(self, seconds: float) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._stop_there, selectors.EVENT_READ)
            return bool(selector.select(seconds))

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _tell(self, function: Callable[..., object], *arguments: Any) -> None:
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(function, *arguments)
