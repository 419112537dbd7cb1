"""A look at what is due: what it is to go by, and what it brought."""

from collections.abc import Sequence

import attrs

from econeura_daemon.cron.model import Claimed
from econeura_daemon.cron.planning import Watch
from econeura_daemon.storage.model import Claimant


@attrs.frozen(kw_only=True)
class Look:
    """What one look at the store brought."""

    now: int
    """The instant that counted, in milliseconds since the epoch."""
    watch: Watch
    set_back: bool
    """The wall clock went back since the look before."""
    begun: Sequence[Claimed]
    is_full: bool
    """All the room there was is taken: more may wait."""
    jobs: int
    """Whose ticks were taken."""
    ticks: int
    missed: int
    late_ms: int | None
    """By how much the first of them was late while somebody was there; None: nothing was due."""
    next_at: int | None
    """When the next look is due; at once if it is not later than ``now``."""

    @property
    def progressed(self) -> bool:
        """Whether something was taken."""
        return self.jobs > 0 or len(self.begun) > 0


@attrs.frozen(kw_only=True)
class Taking:
    """What a look is to go by."""

    claimant: Claimant
    now: int
    """By the daemon's own clock."""
    monotonic_ms: float
    watch: Watch | None
    room: int
    """Attempts that this daemon can make."""
    batch: int
    """Jobs whose ticks are taken at once."""
    keep_runs: int
    """Of the history of one job."""
