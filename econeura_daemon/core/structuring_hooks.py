"""How each plain type is structured: cattrs hooks that coerce nothing.

A hook raises `InvalidInputError` with paths that begin at its own value (``$``); its caller puts the way
to that value before them.
"""

import enum
from collections.abc import Callable
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
from math import isfinite
from typing import Any, Final, get_args

import cattrs

from econeura_daemon.core.clock import parse_instant
from econeura_daemon.core.errors import Flaw, InvalidInputError
from econeura_daemon.core.phrases import child_path, described, did_you_mean, one_of

Hook = Callable[[Any, Any], Any]

MAX_FLAWS = 100
"""More are not listed: a hostile body could name a hundred thousand."""


class Unset(enum.Enum):
    """The type of `UNSET`."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET
"""The default of a field for which 'not given' and null differ, as in a PATCH."""


def hook_of(cls: Any, converter: cattrs.BaseConverter) -> Hook:
    """Return the hook for a type. cattrs would take a StrEnum for a str, so enums do not reach it."""
    if isinstance(cls, type) and issubclass(cls, enum.Enum):
        return enum_hook(cls)
    hook: Hook = converter.get_structure_hook(cls)
    return hook


def refuse(expected: str, raw: object) -> InvalidInputError:
    return InvalidInputError.at("$", f"expected {expected}, got {described(raw)}")


def exactly(kind: type, expected: str) -> Hook:
    def structure(raw: Any, _: Any) -> Any:
        if type(raw) is kind:
            return raw
        raise refuse(expected, raw)

    return structure


def structure_float(raw: Any, _: Any) -> float:
    if type(raw) is not float and type(raw) is not int:
        raise refuse("a number", raw)
    try:
        value = float(raw)
    except OverflowError:
        value = float("inf")
    if not isfinite(value):
        raise InvalidInputError.at("$", "the number is out of range")
    return value


def structure_instant(raw: Any, _: Any) -> datetime:
    if type(raw) is not str:
        raise refuse("an RFC 3339 instant", raw)
    try:
        return parse_instant(raw)
    except ValueError as error:
        raise InvalidInputError.at("$", str(error)) from None


def structure_network(raw: Any, _: Any) -> IPv4Network | IPv6Network:
    if type(raw) is not str:
        raise refuse("a network such as 10.0.0.0/8", raw)
    try:
        return ip_network(raw)
    except ValueError as error:
        raise InvalidInputError.at("$", f"expected a network such as 10.0.0.0/8: {error}") from None


def enum_hook(cls: type[enum.Enum]) -> Hook:
    by_value = {member.value: member for member in cls}
    expected = one_of([str(value) for value in by_value])

    def structure(raw: Any, _: Any) -> Any:
        if type(raw) is str and raw in by_value:
            return by_value[raw]
        guess = did_you_mean(raw, [str(value) for value in by_value]) if type(raw) is str else ""
        raise InvalidInputError.at("$", f"expected {expected}, got {described(raw)}{guess}")

    return structure


def tuple_hook(cls: Any, converter: cattrs.BaseConverter) -> Hook:
    item_type, *rest = get_args(cls)
    if rest != [...]:
        raise TypeError(f"only tuple[X, ...] can be structured, not {cls}")
    hook = hook_of(item_type, converter)

    def structure(raw: Any, _: Any) -> Any:
        if type(raw) is not list:
            raise refuse("a list", raw)
        items = []
        flaws: list[Flaw] = []
        for index, item in enumerate(raw):
            try:
                items.append(hook(item, item_type))
            except InvalidInputError as error:
                adopt(flaws, f"$[{index}]", error)
                if len(flaws) > MAX_FLAWS:
                    break
        if flaws:
            raise InvalidInputError(flaws)
        return tuple(items)

    return structure


def mapping_hook(cls: Any, converter: cattrs.BaseConverter) -> Hook:
    key_type, item_type = get_args(cls)
    if key_type is not str:
        raise TypeError(f"only mappings from str can be structured, not {cls}")
    if item_type is Any:
        return exactly(dict, "an object")
    hook = hook_of(item_type, converter)

    def structure(raw: Any, _: Any) -> Any:
        if type(raw) is not dict:
            raise refuse("an object", raw)
        items = {}
        flaws: list[Flaw] = []
        for key, item in raw.items():
            try:
                items[key] = hook(item, item_type)
            except InvalidInputError as error:
                adopt(flaws, child_path(key), error)
                if len(flaws) > MAX_FLAWS:
                    break
        if flaws:
            raise InvalidInputError(flaws)
        return items

    return structure


def union_hook(cls: Any, converter: cattrs.BaseConverter) -> Hook:
    members = set(get_args(cls)) - {Unset}
    optional = type(None) in members
    members.discard(type(None))
    if members == {IPv4Network, IPv6Network}:
        hook: Hook = structure_network
    elif len(members) == 1:
        hook = hook_of(members.pop(), converter)
    else:
        raise TypeError(f"the union {cls} cannot be structured")
    if not optional:
        return hook

    def structure(raw: Any, _: Any) -> Any:
        return None if raw is None else hook(raw, None)

    return structure


def adopt(flaws: list[Flaw], prefix: str, error: InvalidInputError) -> None:
    flaws.extend(Flaw(prefix + flaw.path[1:], flaw.message) for flaw in error.flaws)
