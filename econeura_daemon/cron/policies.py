"""What holds for a job's runs: whether they overlap, when they are repeated, how a job is spread. Pure."""

import enum
from hashlib import sha256
from random import Random

from econeura_daemon.core.jobs import Overlap

MAX_QUEUED = 10_000
"""Runs of one job that wait for the one before them; a further tick is skipped."""
FIRST_BACKOFF_MS = 1000
MAX_BACKOFF_MS = 300_000
BACKOFF_JITTER = 0.2
LATE_MS = 1000
"""A run that starts later than this after it was due is late."""


class Admission(enum.Enum):
    """What becomes of a tick that is to run."""

    START = enum.auto()
    WAIT = enum.auto()
    """For the runs of the job before it."""
    SKIP = enum.auto()


def admit(overlap: Overlap, open_runs: int, *, catches_up: bool) -> Admission:
    """Return what becomes of a tick while ``open_runs`` runs of its job have not come to an end.

    ``catches_up``: it is one of many that are run because none may be left out; they do not skip each other.
    """
    if open_runs == 0 or overlap is Overlap.ALLOW:
        return Admission.START
    if (overlap is Overlap.QUEUE or catches_up) and open_runs <= MAX_QUEUED:
        return Admission.WAIT
    return Admission.SKIP


def backoff_ms(attempt: int, rng: Random) -> int:
    """Return the wait after attempt ``attempt`` (from 1) that failed: a second, doubled up to five minutes, ± 20 %."""
    wait = min(FIRST_BACKOFF_MS * 2 ** min(attempt - 1, 32), MAX_BACKOFF_MS)
    return int(wait * (1 - BACKOFF_JITTER + 2 * BACKOFF_JITTER * rng.random()))


def offset_ms(job_id: str, jitter_ms: int) -> int:
    """Return by how much a job runs later than its schedule: always the same, and evenly spread over the jobs."""
    if jitter_ms == 0:
        return 0
    return int.from_bytes(sha256(job_id.encode()).digest()[:8]) % (jitter_ms + 1)
