"""Whether an answer has the shape of a recorded one: its keys, and the kinds of their values."""

import json
from pathlib import Path

CONTRACT = json.loads((Path(__file__).parents[1] / "cases" / "workers_contract.json").read_text())


def differences(recorded, got, path="$"):
    """Yield where an answer lacks what was recorded; what it has beside is its own business.

    Null stands for anything, an empty object for any object, a list's first item for all of its items.
    """
    if recorded is None:
        return
    if isinstance(recorded, dict):
        if not isinstance(got, dict):
            yield f"{path} is no object but {got!r:.100}"
            return
        for name, value in recorded.items():
            if name not in got:
                yield f"{path}.{name} is missing"
            else:
                yield from differences(value, got[name], f"{path}.{name}")
    elif isinstance(recorded, list):
        if not isinstance(got, list):
            yield f"{path} is no list but {got!r:.100}"
            return
        for index, value in enumerate(got):
            yield from differences(recorded[0] if recorded else None, value, f"{path}[{index}]")
    elif isinstance(recorded, bool) or not isinstance(recorded, int | float):
        if type(got) is not type(recorded):
            yield f"{path} is {got!r:.100}, where {recorded!r} was recorded"
    elif isinstance(got, bool) or not isinstance(got, int | float):
        yield f"{path} is {got!r:.100}, where {recorded!r} was recorded"


def assert_shape(name, got):
    """Compare an answer's document with the one recorded under this name."""
    assert list(differences(CONTRACT["answers"][name], got)) == [], got
