"""Telling systemd: sd_notify(3) over ``$NOTIFY_SOCKET``, without libsystemd.

Nothing here raises or blocks for long: a service manager that does not listen must not hurt the service.
"""

import logging
import os
import socket
import time
from collections.abc import Generator, MutableMapping
from contextlib import contextmanager

import attrs

PATIENCE = 1.0
"""Seconds for which a change of state waits for room in the service manager's buffer; the rest does not wait.
"""

_log = logging.getLogger(__name__)


@attrs.define
class Notifier:
    """Sends to the service manager, if there is one."""

    _socket: socket.socket | None
    _address: str
    watchdog_interval: float | None = None
    """Seconds within which systemd wants to hear from us, or None: it does not watch this process."""

    def ready(self, status: str = "") -> bool:
        """Say that the start, or a reload, is complete. All of these return whether somebody was told."""
        return self._send(PATIENCE, "READY=1", *_status(status))

    def stopping(self, status: str = "") -> bool:
        """Say that the service is going down."""
        return self._send(PATIENCE, "STOPPING=1", *_status(status))

    def reloading(self) -> bool:
        """Say that the settings are being read again; `ready` must follow, whatever comes of it."""
        # ``Type=notify-reload`` wants the time, to tell this reload from an earlier one.
        return self._send(PATIENCE, "RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def status(self, text: str) -> bool:
        """Show ``text`` in ``systemctl status``."""
        return self._send(0, *_status(text))

    def watchdog(self) -> bool:
        """Tell the watchdog that all is well."""
        return self._send(0, "WATCHDOG=1")

    def _send(self, patience: float, *assignments: str) -> bool:
        if self._socket is None or not assignments:
            return False
        try:
            self._socket.settimeout(patience)
            self._socket.sendto("\n".join(assignments).encode(errors="replace"), self._address)
        except OSError as error:  # TimeoutError and BlockingIOError are OSErrors
            _log.warning("the service manager could not be told %s: %s", assignments[0], error)
            return False
        return True


@contextmanager
def open_notifier(environ: MutableMapping[str, str]) -> Generator[Notifier]:
    """Open the way to the service manager that ``environ`` names; without one, a notifier that does nothing.

    Takes ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` out of ``environ``, so that no child
    speaks in our name.
    """
    name = environ.pop("NOTIFY_SOCKET", "")
    interval = _watchdog_interval(environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", ""))
    if not name:
        yield Notifier(None, "")
        return
    if name[0] not in "/@":
        _log.warning("NOTIFY_SOCKET=%s is no unix socket; the service manager will hear nothing", name)
        yield Notifier(None, "")
        return
    address = "\0" + name[1:] if name[0] == "@" else name
    try:
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    except OSError as error:
        _log.warning("there is no way to the service manager: %s", error)
        yield Notifier(None, "")
        return
    with opened:
        yield Notifier(opened, address, interval)


def _status(text: str) -> tuple[str, ...]:
    # A line feed would begin another assignment.
    return (f"STATUS={' '.join(text.split())}",) if text else ()


def _watchdog_interval(microseconds: str, pid: str) -> float | None:
    """Return the interval in seconds, if it is meant for this process: sd_watchdog_enabled(3)."""
    if not microseconds or (pid and pid != str(os.getpid())):
        return None
    try:
        interval = int(microseconds) / 1e6
    except ValueError:
        interval = 0.0
    if interval <= 0:
        _log.warning("WATCHDOG_USEC=%s is no positive number; the watchdog is not fed", microseconds)
        return None
    return interval
