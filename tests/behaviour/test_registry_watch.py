"""No wake is missed and none is false: a watcher's own picture against the truth, over random interleavings."""

import attrs
import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from econeura_daemon.registry.model import Change, Instance, Registration, Status
from econeura_daemon.registry.watch import Query, Watches

QUERIES = [Query(), Query("a"), Query("b"), Query("a", Status.DRAINING), Query("a", None, "x")]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "drain", "expire", "remove"]),
        st.integers(0, 2),
        st.sampled_from("ab"),
        st.booleans(),
        st.booleans(),
    ),
    min_size=10,  # short ones are dull
    max_size=40,
)
"""Deed, key, type, a flag of the deed's, and whether watchers get to run behind it."""


def made(key, index, kind, *, tagged):
    said = Registration(
        id=str(key), name="n", type=kind, host="h", port=1, ttl_ms=1, tags=("x",) if tagged else ()
    )
    return Instance(registration=said, generation=index, registered_at=0)


def shown(instance):
    """What a list shows of it; each registration comes at an instant of its own."""
    return instance and (instance.generation, instance.to_json())


def listed(instances, query):
    return {key: one.to_json() for key, one in instances.items() if query.matches(one)}


def hold_watchers_against_the_truth(steps):
    async def main():
        watches, instances = Watches(0), {}
        pictures = [listed(instances, query) for query in QUERIES]
        wakes, expected, changed = ([0] * len(QUERIES) for _ in range(3))

        async def watch(place, query):
            index = watches.index
            while True:
                await watches.wait(query, index, 3600)
                index = watches.index
                wakes[place] += 1
                pictures[place] = listed(instances, query)

        async def look():
            await trio.testing.wait_all_tasks_blocked()
            for place, query in enumerate(QUERIES):
                assert pictures[place] == listed(instances, query), query
                expected[place] += changed[place]
                changed[place] = False
            assert wakes == expected

        async with trio.open_nursery() as nursery:
            for place, query in enumerate(QUERIES):
                nursery.start_soon(watch, place, query)
            await trio.testing.wait_all_tasks_blocked()
            for deed, key, kind, flag, is_watched in steps:
                before, index = instances.get(key), watches.index + 1
                if deed == "put":
                    after = made(key, index, kind, tagged=flag)
                elif before is None:
                    continue
                elif deed == "remove":
                    after = None
                else:
                    found = {"draining": flag} if deed == "drain" else {"expired": flag}
                    after = before.with_health(attrs.evolve(before.health, **found))
                if after is None:
                    del instances[key]
                else:
                    instances[key] = after
                change = Change(index, before, after)
                watches.note(change)
                for place, query in enumerate(QUERIES):
                    matched = query.matches(before) or query.matches(after)
                    changed[place] |= matched and shown(before) != shown(after)
                if is_watched:
                    await look()
            await look()
            nursery.cancel_scope.cancel()

    trio.run(main)


@example([(deed, 0, "a", True, True) for deed in ("put", "drain", "expire")])  # in maintenance nobody sees it
@given(STEPS)
def test_every_watcher_holds_the_truth_after_every_change_and_wakes_only_for_its_list(steps):
    hold_watchers_against_the_truth(steps)


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None)
@given(STEPS)
def test_so_it_is_over_ten_thousand_interleavings(steps):
    hold_watchers_against_the_truth(steps)


def test_an_index_that_is_unknown_or_too_old_is_answered_at_once():
    watches = Watches(10)
    assert watches.has_changed(Query(), 9)
    assert watches.has_changed(Query(), 11)
    assert not watches.has_changed(Query(), 10)
    for index in range(11, 11 + 4097):
        watches.note(Change(index, None, attrs.evolve(made(1, index, "b", tagged=False))))
    assert not watches.has_changed(Query("a"), 11)
    assert watches.has_changed(Query("a"), 10)
    assert watches.has_changed(Query("b"), 11)
