"""The verdict of a check as a value: the first result alone, then so many in a row, with reasons people can read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econeura_daemon.probes.model import Outcome, ProbeResult
from econeura_daemon.probes.verdict import Judgement, settled
from econeura_daemon.registry.model import Check, Verdict

DETAILS = {
    "P": (Outcome.PASS, "HTTP 200"),
    "W": (Outcome.WARNING, "HTTP 429"),
    "F": (Outcome.FAIL, "HTTP 503 'db down'"),
}
CHECK = Check()


def observe(letters, judgement=None, check=CHECK):
    """Return the judgement after each result, and the reasons that were told, by place."""
    judgement = Judgement() if judgement is None else judgement
    judgements, reasons = [], {}
    for place, letter in enumerate(letters):
        outcome, detail = DETAILS[letter]
        judgement, reason = judgement.observe(ProbeResult(outcome=outcome, detail=detail), check)
        judgements.append(judgement)
        if reason is not None:
            reasons[place] = reason
    return judgements, reasons


@pytest.mark.parametrize(
    ("letters", "verdicts", "reasons"),
    [
        ("P", "h", {0: "the first probe passed: HTTP 200"}),
        ("W", "w", {0: "the first probe warned: HTTP 429"}),
        ("F", "u", {0: "the first probe failed: HTTP 503 'db down'"}),
        ("PFFF", "hhhu", {3: "3 failures in a row: HTTP 503 'db down'"}),
        ("PFFPFF", "hhhhhh", {}),
        ("FPP", "uuh", {2: "2 passes in a row: HTTP 200"}),
        ("FPFPP", "uuuuh", {4: "2 passes in a row: HTTP 200"}),
        ("PW", "hw", {1: "it passes, with a warning: HTTP 429"}),
        ("PWWW", "hwww", {1: "it passes, with a warning: HTTP 429"}),
        ("WPP", "wwh", {2: "2 passes in a row: HTTP 200"}),
        ("WPWPP", "wwwwh", {4: "2 passes in a row: HTTP 200"}),
        ("WPFPP", "wwwwh", {4: "2 passes in a row: HTTP 200"}),
        ("WFFF", "wwwu", {3: "3 failures in a row: HTTP 503 'db down'"}),
        ("FWW", "uuw", {2: "2 passes in a row: HTTP 429"}),
    ],
)
def test_results_in_a_row_turn_a_verdict_and_say_why(letters, verdicts, reasons):
    judgements, told = observe(letters)
    assert "".join(one.verdict.value[0] for one in judgements) == verdicts
    assert {place: reason for place, reason in told.items() if place or 0 in reasons} == reasons


@given(st.text("PWF", min_size=1, max_size=40), st.integers(1, 4), st.integers(1, 4))
def test_a_verdict_turns_exactly_when_that_many_in_a_row_speak_against_it(
    letters, unhealthy_after, healthy_after
):
    judgements, _ = observe(
        letters, check=Check(unhealthy_after=unhealthy_after, healthy_after=healthy_after)
    )
    well = letters[0] != "F"
    for place, judgement in enumerate(judgements):
        needed = unhealthy_after if well else healthy_after
        last = letters[max(1, place + 1 - needed) : place + 1]
        if place and len(last) == needed and all((letter == "F") is well for letter in last):
            well = not well
        assert judgement.verdict.passes is well


def test_while_the_verdict_is_in_doubt_the_next_probe_comes_within_5_s_and_else_after_the_interval():
    judgements, _ = observe("PPFPPFFFFF")
    soon = [one.next_in_ms(CHECK) for one in judgements]
    assert soon == [5000, 30_000, 5000, 5000, 30_000, 5000, 5000, 30_000, 30_000, 30_000]
    assert Judgement().next_in_ms(CHECK) == 5000
    assert settled(Verdict.HEALTHY, CHECK).next_in_ms(CHECK) == 30_000
    assert settled(None, CHECK).next_in_ms(Check(interval_ms=100)) == 100


def test_one_that_is_overloaded_is_not_probed_more_often_for_it():
    judgements, _ = observe("PPWWPW")
    assert [one.next_in_ms(CHECK) for one in judgements[1:]] == [30_000] * 5


def test_a_verdict_that_was_kept_needs_as_many_results_as_any_other():
    judgements, reasons = observe("FFF", settled(Verdict.WARNING, CHECK))
    assert [one.verdict for one in judgements] == [Verdict.WARNING, Verdict.WARNING, Verdict.UNHEALTHY]
    assert list(reasons) == [2]
