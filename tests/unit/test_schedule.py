"""What follows an attempt, as a table and as properties."""

from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econeura_daemon.core.settings import DAY, HOUR, MINUTE, SECOND, RetrySettings
from econeura_daemon.webhooks.model import AttemptOutcome, RetryPolicy
from econeura_daemon.webhooks.schedule import (
    Delivered,
    Failed,
    RetryAt,
    default_policy,
    next_step,
    wait_bounds,
)

NOW = 1_800_000_000_000
STANDARD = default_policy(RetrySettings())

policies = st.builds(
    RetryPolicy,
    max_retries=st.integers(0, 100),
    retry_delay=st.integers(1, DAY),
    backoff_multiplier=st.floats(1, 1e300),
    max_delay=st.integers(1, 7 * DAY),
    schedule=st.none() | st.lists(st.integers(0, 7 * DAY), max_size=12).map(tuple),
)


def outcome(status=None, error=None, **more):
    return AttemptOutcome(
        sent_at=datetime(2026, 1, 1, tzinfo=UTC), duration_ms=1, status_code=status, error=error, **more
    )


def step(result, number=1, max_attempts=10, policy=STANDARD, seed=0):
    return next_step(result, number, max_attempts, policy, NOW, Random(seed))


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_delivered(status):
    assert step(outcome(status)) == Delivered()


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (301, "redirects are not followed"),
        (302, "redirects are not followed"),
        (304, "redirects are not followed"),
        *[(status, f"answered {status}") for status in (199, 400, 401, 404, 408, 429, 500, 503, 600)],
    ],
)
def test_any_other_status_is_tried_again_and_says_so(status, reason):
    following = step(outcome(status))
    assert isinstance(following, RetryAt)
    assert reason in following.reason


def test_an_error_is_tried_again_with_its_words():
    assert (
        step(outcome(error="connection refused by 127.0.0.1:9")).reason == "connection refused by 127.0.0.1:9"
    )


def test_an_answer_that_broke_off_is_no_success_whatever_its_status():
    assert isinstance(step(outcome(200, "the connection was reset")), RetryAt)


def test_a_refusal_by_the_guard_is_tried_again_because_settings_and_names_change():
    assert isinstance(step(outcome(error="private", refused=True)), RetryAt)


def test_410_gives_up_at_once_and_disables():
    assert step(outcome(410)) == Failed("answered 410", disable=True)


@pytest.mark.parametrize(("number", "expected"), [(9, RetryAt), (10, Failed), (11, Failed)])
def test_the_last_attempt_is_the_last(number, expected):
    following = step(outcome(500), number)
    assert isinstance(following, expected)
    assert not getattr(following, "disable", False)


@pytest.mark.parametrize(
    ("number", "wait"),
    list(
        enumerate(
            [5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, DAY]
        )
    ),
)
def test_the_default_waits_are_those_of_standard_webhooks_give_or_take_a_fifth(number, wait):
    waits = [step(outcome(500), number + 1, seed=seed).at_ms - NOW for seed in range(300)]
    assert wait * 0.8 <= min(waits) < wait * 0.83
    assert wait * 1.17 < max(waits) <= wait * 1.2


def test_settings_make_the_policy():
    assert STANDARD.max_retries == 9
    both = default_policy(RetrySettings(max_attempts=4, delay_ms=1000))
    assert (both.max_retries, both.schedule) == (3, None)
    assert [wait_bounds(number, both) for number in (1, 2, 3)] == [(800, 1200), (1600, 2400), (3200, 4800)]
    only_attempts = default_policy(RetrySettings(max_attempts=12))
    assert only_attempts.max_retries == 11
    assert wait_bounds(11, only_attempts) == wait_bounds(9, STANDARD)
    only_delay = default_policy(RetrySettings(delay_ms=1000))
    assert (only_delay.max_retries, only_delay.retry_delay, only_delay.schedule) == (9, 1000, None)


@given(st.integers(0, 1000), policies, st.integers(0, 400 * DAY))
def test_retry_after_only_lengthens_and_at_most_to_a_day(seed, policy, asked):
    plain = step(outcome(503), policy=policy, seed=seed).at_ms
    polite = step(outcome(503, retry_after_ms=asked), policy=policy, seed=seed).at_ms
    assert polite == max(plain, NOW + min(asked, DAY))


@given(policies, st.integers(1, 200), st.integers())
def test_a_wait_is_within_its_bounds_and_never_in_the_past(policy, number, seed):
    low, high = wait_bounds(number, policy)
    following = step(outcome(500), number, number + 1, policy, seed)
    assert 0 <= low <= following.at_ms - NOW <= high
    if policy.schedule is None:
        assert high <= policy.max_delay


@given(policies, st.integers(1, 200))
def test_exponential_waits_never_shrink(policy, number):
    if policy.schedule is None:
        (low, high), (next_low, next_high) = wait_bounds(number, policy), wait_bounds(number + 1, policy)
        assert low <= next_low
        assert high <= next_high


@given(st.integers(1, 100), st.integers(1, 100))
def test_a_delivery_ends_after_exactly_max_attempts(max_attempts, extra):
    ends = [isinstance(step(outcome(500), n, max_attempts), Failed) for n in range(1, max_attempts + extra)]
    assert ends.index(True) + 1 == max_attempts if True in ends else extra == 0
