"""Lists are put together from instances that were written before; they show what a look at one instance shows."""

import attrs
import pytest

from econeura_daemon.core.jsons import loads
from econeura_daemon.registry.model import Check, Health, Instance, Registration, Verdict

REGISTRATION = Registration(
    id="web-1",
    name='web ü "1"',
    type="web",
    host="::1",
    port=80,
    tags=("a",),
    metadata={"deep": [1, {"x": None}]},
    check=Check(),
)
INSTANCE = Instance(registration=REGISTRATION, generation=7, registered_at=1_790_000_000_000)


@pytest.mark.parametrize("heartbeat", [None, 1_790_000_000_123])
@pytest.mark.parametrize(
    "instance",
    [
        INSTANCE,
        attrs.evolve(INSTANCE, is_static=True),
        INSTANCE.with_health(Health(stale=True, verdict=Verdict.HEALTHY, reason="the first probe passed")),
    ],
)
def test_what_is_written_is_what_is_shown(instance, heartbeat):
    for _ in range(2):  # the second time from what was kept
        shown, written = instance.to_json(heartbeat), loads(instance.written(heartbeat))
        assert written == shown
        assert list(written) == list(shown)


def test_one_that_changed_is_written_anew():
    before = INSTANCE.written()
    after = INSTANCE.with_health(Health(draining=True)).written()
    assert loads(before)["status"] == "unknown"
    assert loads(after)["status"] == "draining"
