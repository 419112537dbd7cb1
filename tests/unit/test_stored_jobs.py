"""A job's definition as the store has it: read back without being judged again."""

import attrs
import pytest

from econeura_daemon.core.errors import InvalidInputError
from econeura_daemon.core.jobs import JobBody
from econeura_daemon.core.jsons import dumps, loads
from econeura_daemon.core.structuring import structure_json

REQUEST = {
    "kind": "request",
    "service": "w",
    "method": "POST",
    "path": "/a",
    "body": [1, None],
    "headers": {"X": "y"},
}
ACTIONS = [
    REQUEST,
    {"kind": "request", "service": "w", "method": "GET", "path": "/"},
    {"kind": "event", "type": "a.b", "data": {"n": 1}},
    {"kind": "maintenance", "task": "backup"},
]
LEAST = {"name": "x", "schedule": "@daily"}
MORE = {
    "timeZone": "Europe/Madrid", "enabled": False, "overlap": "queue", "misfire": "all", "misfireWindowMs": 7,
    "jitterMs": 8, "timeoutMs": 900, "retries": 9, "dstGap": "skip", "dstFold": "twice", "pauseAfterFailures": 5,
}  # fmt: skip


@pytest.mark.parametrize("more", [{}, MORE])
@pytest.mark.parametrize("action", ACTIONS)
def test_what_was_stored_is_read_as_it_was(action, more):
    body = structure_json({**LEAST, "action": action, **more}, JobBody)
    raw = loads(dumps(body.to_json()))
    read = JobBody.stored(raw)
    assert read == body
    assert hash(read.overlap) == hash(body.overlap)
    assert (repr(read), read.to_json()) == (repr(body), raw)
    assert attrs.evolve(read, enabled=True) == attrs.evolve(body, enabled=True)


def test_rules_that_became_stricter_take_no_job_away_and_keys_that_came_since_have_their_defaults():
    old = {**LEAST, "action": {**REQUEST, "path": "/a/../b"}}
    with pytest.raises(InvalidInputError):
        structure_json(old, JobBody)
    read = JobBody.stored(old)
    assert read.action.path == "/a/../b"
    assert (read.retries, read.time_zone, read.pause_after_failures) == (1, "UTC", None)
