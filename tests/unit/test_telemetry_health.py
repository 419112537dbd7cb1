"""The board of health."""

import pytest

from econeura_daemon.telemetry import ComponentHealth, HealthBoard
from econeura_daemon.telemetry.health import worst


def test_an_empty_board_is_healthy():
    assert worst(HealthBoard().report().values()) == "healthy"


@pytest.mark.parametrize(
    ("statuses", "overall"),
    [
        (["healthy", "healthy"], "healthy"),
        (["healthy", "degraded", "healthy"], "degraded"),
        (["degraded", "unhealthy", "healthy"], "unhealthy"),
    ],
)
def test_the_whole_is_as_well_as_its_worst_part(statuses, overall):
    board = HealthBoard()
    for number, status in enumerate(statuses):
        board.add(f"part{number}", lambda status=status: ComponentHealth(status, "so"))
    assert worst(board.report().values()) == overall
    assert [health.status for health in board.report().values()] == statuses


def test_a_check_that_raises_is_unhealthy_with_the_reason_and_others_are_still_asked():
    board = HealthBoard()
    board.add("broken", lambda: 1 / 0)
    board.add("fine", lambda: ComponentHealth("healthy", "running"))
    assert board.report() == {
        "broken": ComponentHealth("unhealthy", "the check failed: ZeroDivisionError: division by zero"),
        "fine": ComponentHealth("healthy", "running"),
    }


def test_checks_are_asked_each_time():
    answers = iter([ComponentHealth("degraded", "starting"), ComponentHealth("healthy", "running")])
    board = HealthBoard()
    board.add("part", lambda: next(answers))
    assert [worst(board.report().values()) for _ in range(2)] == ["degraded", "healthy"]


def test_a_name_is_given_once_and_a_status_is_one_of_three():
    board = HealthBoard()
    board.add("part", lambda: ComponentHealth("healthy"))
    with pytest.raises(ValueError, match="'part'"):
        board.add("part", lambda: ComponentHealth("healthy"))
    with pytest.raises(ValueError, match="status"):
        ComponentHealth("fine")
