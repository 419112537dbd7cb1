import enum
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Any, get_args

import attrs
import pytest
from attrs.validators import ge, in_, max_len
from hypothesis import given
from hypothesis import strategies as st

from econeura_daemon.core.errors import InvalidInputError
from econeura_daemon.core.structuring import (
    MAX_FLAWS,
    UNSET,
    Unset,
    key_of,
    structure_json,
    structure_settings,
)
from econeura_daemon.events.model import PublishBatch, PublishEvent
from econeura_daemon.webhooks.commands import CreateSubscription, SubscriptionBody


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


@attrs.frozen(kw_only=True)
class Item:
    name: str = attrs.field(validator=max_len(5))
    unit_price: float = attrs.field(default=1.0, validator=ge(0))
    tags: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Order:
    items: tuple[Item, ...]
    count: int = attrs.field(default=1, validator=ge(1))
    gift: bool = False
    note: str | None = None
    colour: Colour = Colour.RED
    extra: dict[str, Any] = attrs.field(factory=dict)
    headers: Mapping[str, str] = attrs.field(factory=dict)
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    by_name: dict[str, Item] = attrs.field(factory=dict)
    secret_key: str = attrs.field(default="", repr=False, validator=in_(("", "right")))
    due: datetime | None = None
    replaced_by: "str | Unset | None" = UNSET


def flaws(raw: object, cls: type = Order) -> list[str]:
    with pytest.raises(InvalidInputError) as caught:
        structure_json(raw, cls)
    return [str(flaw) for flaw in caught.value.flaws]


def structured_or_refused(raw: object, cls: type) -> bool:
    """Any other exception is a failure of the test."""
    try:
        return isinstance(structure_json(raw, cls), cls)
    except InvalidInputError as refusal:
        return bool(refusal.flaws) and all(f.path.startswith("$") and f.message for f in refusal.flaws)


def test_everything_that_fits_becomes_frozen_values():
    order = structure_json(
        {
            "items": [{"name": "a", "unitPrice": 2, "tags": ["x"]}],
            "count": 2,
            "gift": True,
            "note": None,
            "colour": "blue",
            "extra": {"deep": [1, {"x": None}]},
            "headers": {"X-A": "b"},
            "networks": ["10.0.0.0/8", "::1/128"],
            "byName": {"k": {"name": "b"}},
            "due": "2026-11-24T02:00:00.000Z",
        },
        Order,
    )
    assert order == Order(
        items=(Item(name="a", unit_price=2.0, tags=("x",)),),
        count=2,
        gift=True,
        colour=Colour.BLUE,
        extra={"deep": [1, {"x": None}]},
        headers={"X-A": "b"},
        networks=(IPv4Network("10.0.0.0/8"), IPv6Network("::1/128")),
        by_name={"k": Item(name="b")},
        due=datetime(2026, 11, 24, 2, tzinfo=UTC),
    )
    assert type(order.items[0].unit_price) is float


def test_an_absent_key_is_told_from_null_where_the_type_has_unset():
    assert structure_json({"items": []}, Order).replaced_by is UNSET
    assert structure_json({"items": [], "replacedBy": None}, Order).replaced_by is None
    assert flaws({"items": [], "replacedBy": 5}) == ["$.replacedBy: expected a string, got the number 5"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("note", 5, "expected a string, got the number 5"),
        ("count", True, "expected an integer, got true"),
        ("count", "1", "expected an integer, got the string '1'"),
        ("count", 1.0, "expected an integer, got the number 1.0"),
        ("count", None, "expected an integer, got null"),
        ("gift", 1, "expected true or false, got the number 1"),
        ("items", "abc", "expected a list, got the string 'abc'"),
        ("items", {"0": 1}, "expected a list, got an object"),
        ("extra", [], "expected an object, got a list"),
        ("colour", "Red", "expected 'red' or 'blue', got the string 'Red'; did you mean 'red'?"),
        ("colour", [], "expected 'red' or 'blue', got a list"),
        ("due", "tomorrow", "expected an RFC 3339 instant such as 2026-11-24T02:00:00.000Z, got 'tomorrow'"),
        ("due", 5, "expected an RFC 3339 instant, got the number 5"),
        ("count", 0, "must be >= 1: 0"),
    ],
)
def test_nothing_is_coerced_and_the_sentence_says_what_was_expected(key, value, said):
    assert flaws({"items": [], key: value}) == [f"$.{key}: {said}"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400])
def test_a_number_that_is_none_is_refused(value):
    assert flaws({"name": "a", "unitPrice": value}, Item) == ["$.unitPrice: the number is out of range"]


def test_all_flaws_are_told_at_once_each_with_its_path():
    assert flaws(
        {
            "items": [{"name": "a"}, {"name": "too long", "unitPrice": -1, "tags": ["x", 7]}, None],
            "cuont": 3,
            "byName": {"a key": {"nmae": "x"}},
            "networks": ["10.0.0.1/8"],
            "headers": {"X-A": 1},
        }
    ) == [
        "$.items[1].tags[1]: expected a string, got the number 7",
        "$.items[1].name: Length of 'name' must be <= 5: 8",
        "$.items[1].unitPrice: must be >= 0: -1.0",
        "$.items[2]: expected an object, got null",
        "$.cuont: unknown key; did you mean 'count'?",
        "$.byName['a key'].nmae: unknown key; did you mean 'name'?",
        "$.byName['a key'].name: is missing",
        "$.networks[0]: expected a network such as 10.0.0.0/8: 10.0.0.1/8 has host bits set",
        "$.headers.X-A: expected a string, got the number 1",
    ]


def test_an_unknown_key_that_resembles_none_gets_the_list_of_keys():
    assert flaws({"name": "a", "zzz": 1}, Item) == ["$.zzz: unknown key; the keys are name, unitPrice, tags"]


def test_a_key_in_the_other_spelling_gets_the_right_one_suggested():
    assert flaws({"name": "a", "unit_price": 1}, Item) == [
        "$.unit_price: unknown key; did you mean 'unitPrice'?"
    ]


def test_settings_are_keyed_as_the_fields_are():
    assert structure_settings({"name": "a", "unit_price": 1}, Item).unit_price == 1.0
    with pytest.raises(InvalidInputError, match="did you mean 'unit_price'"):
        structure_settings({"name": "a", "unitPrice": 1}, Item)


@pytest.mark.parametrize("value", ["hunter2", 472, ["hunter2"], {"a": "hunter2"}, "hunter2" * 100])
def test_a_secret_stands_in_no_message(value):
    text = " ".join(flaws({"items": [], "secretKey": value}))
    assert "$.secretKey" in text
    assert "hunter" not in text
    assert "472" not in text


def test_what_the_class_itself_refuses_is_told_at_the_object():
    @attrs.frozen
    class Window:
        low: int
        high: int

        def __attrs_post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low must not be above high")

    assert flaws({"low": 2, "high": 1}, Window) == ["$: low must not be above high"]


def test_a_validator_that_looks_at_a_neighbour_sees_it():
    def below_high(instance: Any, _field: object, value: int) -> None:
        if value > instance.high:
            raise ValueError(f"must not be above {instance.high}")

    @attrs.frozen
    class Window:
        high: int
        low: int = attrs.field(validator=below_high)

    assert flaws({"low": 2, "high": 1}, Window) == ["$.low: must not be above 1"]
    assert flaws({"low": 2, "high": "x"}, Window) == ["$.high: expected an integer, got the string 'x'"]


def test_a_hostile_number_of_flaws_is_cut():
    said = flaws({"items": [], **{f"key{n}": n for n in range(50_000)}})
    assert len(said) == MAX_FLAWS + 1
    assert said[-1] == f"$: only the first {MAX_FLAWS} flaws are listed"
    assert len(flaws({"items": [5] * 50_000})) == MAX_FLAWS + 1
    assert len(flaws({"items": [], "headers": {str(n): n for n in range(50_000)}})) == MAX_FLAWS + 1


def test_foreign_text_is_cut_in_messages_and_paths():
    (said,) = flaws({"items": [], "count": "x" * 1_000_000})
    assert len(said) < 200
    (said,) = flaws({"items": [], "y" * 1_000_000: 1})
    assert len(said) < 400


def test_a_type_that_cannot_be_structured_is_a_mistake_of_ours():
    @attrs.frozen
    class Odd:
        pair: tuple[int, str]

    @attrs.frozen
    class Union:
        either: int | str

    for cls in (Odd, Union):
        with pytest.raises(TypeError, match="be structured"):
            structure_json({}, cls)


def keys_of(cls: type) -> list[str]:
    found: list[str] = []
    for field in attrs.fields(attrs.resolve_types(cls)):
        found.append(key_of(field.name))
        for inner in (field.type, *get_args(field.type)):
            if isinstance(inner, type) and attrs.has(inner):
                found += keys_of(inner)
    return found


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.builds(lambda: 10**5000)
_KEYS = st.text() | st.sampled_from(
    [field.name for field in attrs.fields(Order)] + ["byName", "secretKey", "due"]
)
_JSON = st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(_KEYS, inner), max_leaves=20)


@given(_JSON | st.dictionaries(_KEYS, _JSON))
def test_whatever_comes_is_a_value_or_invalid_input(raw):
    assert structured_or_refused(raw, Order)


@pytest.mark.parametrize("command", [PublishEvent, PublishBatch, CreateSubscription, SubscriptionBody])
@given(data=st.data())
def test_whatever_is_sent_to_a_route_is_a_command_or_invalid_input(command, data):
    keys = st.text() | st.sampled_from(keys_of(command))
    raw = data.draw(
        st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=20)
    )
    assert structured_or_refused(raw, command)


def test_structuring_an_event_is_quick():
    code = """
import time, timeit
from econeura_daemon.core.structuring import structure_json
from econeura_daemon.events.model import PublishEvent
raw = {"type": "order.paid", "data": {"a": 1}, "source": "shop", "id": "abc"}
work = lambda: structure_json(raw, PublishEvent)
print(min(timeit.repeat(work, number=1000, repeat=20, timer=time.process_time)) / 1000)
"""
    # In a process of its own, because measuring coverage slows Python code tenfold.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, check=True)
    assert float(done.stdout) < 15e-6  # it is on the hot path; 3.5 µs where this was written
