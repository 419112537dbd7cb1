"""The examples of docs/primitives.md print what stands below them; time is Trio's own, and jumps."""

import re
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

DOCUMENT = (Path(__file__).parents[2] / "docs" / "primitives.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```\n```text\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.mark.parametrize(("program", "printed"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_print_what_stands_below_them(program, printed, capsys, monkeypatch):
    monkeypatch.setattr(trio, "run", partial(trio.run, clock=MockClock(autojump_threshold=0)))
    exec(compile(program, "docs/primitives.md", "exec"), {})
    assert capsys.readouterr().out == printed


def test_each_example_says_what_it_prints():
    assert len(EXAMPLES) == DOCUMENT.count("```python") == 6


def test_every_public_name_of_the_package_is_a_real_one_and_its_primitives_are_documented():
    from econeura_daemon import primitives

    for name in primitives.__all__:
        assert hasattr(primitives, name)
    for name in ("CircuitBreaker", "AdaptiveLimiter", "Bulkhead", "RateLimiter", "RetryBudget"):
        assert f"\n## {name}\n" in DOCUMENT
