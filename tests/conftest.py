"""How long the tests go on: a short form for every change, a long one for a night (`make soak`).

``@pytest.mark.rounds(short=5, soak=200)`` with the fixture ``rounds`` is a loop that runs 5 times in
`make test`, 200 times in `make soak`, and as often as ``--rounds N`` says. ``@pytest.mark.soak`` is a test
for soaking alone. Hypothesis tries a hundred examples of everything, when soaking twenty times as many.

``@pytest.mark.alone`` is a test that measures what a busy machine does not give: no other runs beside it.
"""

import os
import uuid

import hypothesis
import pytest

from tests.support.alone import clear_away, in_the_room
from tests.support.postgres import postgres_cluster, postgres_url

__all__ = [
    "postgres_cluster",
    "postgres_url",
]  # here alone: each conftest that had them had a cluster of its own

hypothesis.settings.register_profile("short", deadline=None)
hypothesis.settings.register_profile("soak", deadline=None, max_examples=2000)


def pytest_addoption(parser):
    group = parser.getgroup("econeura")
    group.addoption(
        "--soak", action="store_true", help="long counts of rounds and examples, and tests marked soak"
    )
    group.addoption("--rounds", type=int, metavar="N", help="the count of every loop that has one")


def pytest_configure(config):
    config.addinivalue_line("markers", "rounds(short, soak): how often the test's loop turns")
    config.addinivalue_line("markers", "soak: runs with --soak only")
    if config.option.testrunuid is None:
        config.option.testrunuid = uuid.uuid4().hex  # xdist would make one, and keep it to itself
    config.addinivalue_line("markers", "alone: no other test runs beside it")
    hypothesis.settings.load_profile("soak" if config.getoption("soak") else "short")


def pytest_collection_modifyitems(config, items):
    if config.getoption("soak"):
        return
    left_out = [item for item in items if item.get_closest_marker("soak")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True, tryfirst=True)  # outside the timeout: waiting for the others is not the test's
def pytest_runtest_protocol(item):
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:  # nobody runs beside this process
        return (yield)
    with in_the_room(run, alone=item.get_closest_marker("alone") is not None):
        return (yield)


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        clear_away(config.option.testrunuid)


@pytest.fixture
def rounds(request):
    """The count for the test's loop."""
    asked = request.config.getoption("rounds")
    if asked is not None:
        return asked
    counts = request.node.get_closest_marker("rounds").kwargs
    return counts["soak" if request.config.getoption("soak") else "short"]
