"""A daemon whose wall clock is off by as many seconds as the first argument says."""

import sys
from datetime import timedelta

from econeura_daemon.core.clock import SystemClock

seconds = timedelta(seconds=float(sys.argv.pop(1)))
right = SystemClock.now
SystemClock.now = lambda self: right(self) + seconds

from econeura_daemon.cli import main  # noqa: E402 - the clock comes first

main()
