"""Time zones by their IANA names, of the machine's data, which may change while the daemon runs."""

import os
import re
import zoneinfo
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from hashlib import sha256
from importlib import metadata
from zoneinfo import ZoneInfo, available_timezones

from econeura_daemon.core.phrases import did_you_mean, shortened
from econeura_daemon.cron.errors import ScheduleError

_NAME = re.compile(r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,3}")
_NOT_ZONES = frozenset({"localtime", "posixrules", "Factory"})
"""Files beside the zones that are none, or another one on every machine."""
_OTHER_CLOCKS = ("posix/", "right/")
"""Folders of the same zones; those below ``right`` count leap seconds, which the epoch does not."""


_edition = 0


def edition() -> int:
    """Return a number that is another one once `use_new_data` was called: what was made with an older one is out."""
    return _edition


def use_new_data() -> None:
    """Read zones anew from now on. What other threads make of the old data meanwhile is out all the same."""
    global _edition  # noqa: PLW0603 - the machine has one set of zones, and so has the process
    _edition += 1
    known_zones.cache_clear()


def data_mark() -> str:
    """Return what tells the machine's time zone data from that of another version; reads no zone, some 10 ms.

    It is the files' names, sizes and times, and the version of the package ``tzdata``, which stands in where the
    machine has none.
    """
    digest = sha256()
    for entry in (entry for path in zoneinfo.TZPATH for entry in _files(path)):
        with suppress(FileNotFoundError):  # a version is just being replaced: the next look sees it
            found = entry.stat()
            digest.update(f"{entry.path} {found.st_size} {found.st_mtime_ns}\n".encode())
    with suppress(metadata.PackageNotFoundError):
        digest.update(metadata.version("tzdata").encode())
    return digest.hexdigest()


def _files(path: str) -> Iterator[os.DirEntry[str]]:
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError:  # not there, or not any more
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if f"{entry.name}/" not in _OTHER_CLOCKS:
                yield from _files(entry.path)
        elif entry.is_file() and entry.name not in _NOT_ZONES:
            yield entry


def zone_named(name: str) -> ZoneInfo:
    """Return the zone; raises ScheduleError for the field ``timeZone``."""
    return _zone_named(name, _edition)


@lru_cache(maxsize=1024)
def _zone_named(name: str, _of_edition: int) -> ZoneInfo:
    if not name:
        raise ScheduleError("timeZone", "expected the name of a time zone such as Europe/Madrid or UTC")
    if _NAME.fullmatch(name) and name not in _NOT_ZONES and not name.startswith(_OTHER_CLOCKS):
        try:
            return ZoneInfo.no_cache(name)
        except (KeyError, ValueError, OSError):  # unknown, not a zone's file, a folder
            pass
    raise ScheduleError(
        "timeZone",
        f"there is no time zone {shortened(name)!r}{did_you_mean(name, known_zones())}"
        " (IANA names, such as Europe/Madrid or UTC)",
    )


@lru_cache(maxsize=1)
def known_zones() -> frozenset[str]:
    """Return the names of all zones that this machine knows."""
    return frozenset(available_timezones() - _NOT_ZONES)
