"""Time zones by their IANA names."""

import re
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from econeura_daemon.core.phrases import did_you_mean, shortened
from econeura_daemon.cron.errors import ScheduleError

_NAME = re.compile(r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,3}")
_NOT_ZONES = frozenset({"localtime", "posixrules", "Factory"})
"""Files beside the zones that are none, or another one on every machine."""
_OTHER_CLOCKS = ("posix/", "right/")
"""Folders of the same zones; those below ``right`` count leap seconds, which the epoch does not."""


@lru_cache(maxsize=1024)
def zone_named(name: str) -> ZoneInfo:
    """Return the zone; raises ScheduleError for the field ``timeZone``."""
    if not name:
        raise ScheduleError("timeZone", "expected the name of a time zone such as Europe/Madrid or UTC")
    if _NAME.fullmatch(name) and name not in _NOT_ZONES and not name.startswith(_OTHER_CLOCKS):
        try:
            return ZoneInfo(name)
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
