"""What an attempt's end says, and whether another attempt follows."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econeura_daemon.resilience.outcomes import End, Outcome, Verdict, verdict_of_status
from econeura_daemon.resilience.retry import GiveUp, Request, RetryAt, RetryPolicy, next_attempt

GET = Request(method="GET")
POST = Request(method="POST")
KEYED = Request(method="POST", has_idempotency_key=True)
POLICY = RetryPolicy()
UNTOUCHED = [End.UNRESOLVED, End.UNCONNECTED, End.TLS, End.UNSENT]


def answered(status, retry_after=None):
    return Outcome(End.ANSWERED, status, retry_after)


def after(request, outcome, **given_):
    facts = {"retried": 0, "now": 0.0, "deadline": 30.0, "rng": Random(3), **given_}
    return next_attempt(POLICY, request, outcome, **facts)


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ((200, 204, 302, 304), Verdict.SUCCESS),
        ((500, 502, 503, 504), Verdict.FAILURE),
        ((429,), Verdict.RATE_ONLY),
        ((400, 401, 403, 404, 409, 422, 499, 501, 505), Verdict.NEUTRAL),
    ],
)
def test_what_a_status_says_of_the_instance(statuses, verdict):
    assert {verdict_of_status(status) for status in statuses} == {verdict}


@pytest.mark.parametrize(
    "end", [End.UNCONNECTED, End.TLS, End.RESET, End.TIMED_OUT, End.UNRESOLVED, End.UNSENT]
)
def test_our_own_timeout_and_lost_connections_are_failures(end):
    assert Outcome(end).verdict is Verdict.FAILURE


@pytest.mark.parametrize("end", [End.CANCELLED, End.REFUSED_HERE])
def test_the_callers_cancellation_and_our_refusals_say_nothing(end):
    assert Outcome(end).verdict is Verdict.NEUTRAL


@pytest.mark.parametrize("wrong", [(End.ANSWERED, None), (End.RESET, 200)])
def test_an_answer_and_nothing_else_has_a_status(wrong):
    with pytest.raises(ValueError, match="has a status"):
        Outcome(*wrong)


@pytest.mark.parametrize("end", UNTOUCHED)
@pytest.mark.parametrize("request_", [GET, POST, KEYED])
def test_what_the_instance_never_saw_is_tried_again_with_any_method(end, request_):
    assert isinstance(after(request_, Outcome(end)), RetryAt)


@pytest.mark.parametrize(
    "outcome", [*map(answered, (429, 502, 503, 504)), Outcome(End.RESET), Outcome(End.TIMED_OUT)]
)
def test_what_may_have_been_carried_out_is_tried_again_only_if_that_does_no_harm(outcome):
    assert isinstance(after(GET, outcome), RetryAt)
    assert isinstance(after(KEYED, outcome), RetryAt)
    assert isinstance(after(POST, outcome), GiveUp)
    assert isinstance(after(Request(method="PATCH"), outcome), GiveUp)


@pytest.mark.parametrize("outcome", [*map(answered, (200, 400, 404, 500, 501)), Outcome(End.CANCELLED)])
def test_what_would_end_the_same_way_again_is_final(outcome):
    assert isinstance(after(GET, outcome), GiveUp)


@pytest.mark.parametrize("outcome", [answered(503), Outcome(End.RESET), Outcome(End.UNCONNECTED)])
def test_a_non_replayable_body_is_not_retried(outcome):
    assert "body" in after(Request(method="PUT", is_replayable=False), outcome).reason


def test_there_are_three_retries_at_most():
    ways = [type(after(GET, answered(503), retried=n)) for n in range(4)]
    assert ways == [RetryAt, RetryAt, RetryAt, GiveUp]
    assert after(GET, answered(503), retried=3).reason == "4 attempts were made: answered 503"


def test_waits_are_fully_jittered_and_double_up_to_five_seconds():
    rng = Random(7)
    for retried, most in enumerate([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]):
        waits = [POLICY.wait(retried, rng) for _ in range(2000)]
        assert 0 <= min(waits) < most / 100
        assert most * 0.99 < max(waits) <= most
        assert sum(waits) / 2000 == pytest.approx(most / 2, rel=0.06)
    assert POLICY.wait(10**6, rng) <= 5.0


def test_retry_after_is_honoured_if_it_fits_the_deadline():
    assert after(GET, answered(503, retry_after=7.0)) == RetryAt(7.0)
    assert after(GET, answered(503, retry_after=0.0)).at > 0


@pytest.mark.parametrize("asked", [30.0, 31.0, 1e9])
def test_retry_after_beyond_the_deadline_fails_at_once(asked):
    assert "after the deadline" in after(GET, answered(429, retry_after=asked)).reason


@given(
    start=st.floats(0, 1e6),
    left=st.floats(0, 60),
    lasts=st.lists(st.floats(0, 20), min_size=9, max_size=9),
    asks=st.lists(st.none() | st.floats(0, 40), min_size=9, max_size=9),
    seed=st.integers(0, 1000),
)
def test_retries_never_exceed_the_total_deadline(start, left, lasts, asks, seed):
    policy, rng = RetryPolicy(retries=8), Random(seed)
    now, deadline = start, start + left
    for retried, (seconds, asked) in enumerate(zip(lasts, asks, strict=True)):
        now += seconds
        step = next_attempt(
            policy, GET, answered(503, asked), retried=retried, now=now, deadline=deadline, rng=rng
        )
        if isinstance(step, GiveUp):
            return
        assert now <= step.at < deadline
        now = step.at
    raise AssertionError("the ninth attempt was followed by another one")
