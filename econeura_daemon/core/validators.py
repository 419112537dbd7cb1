"""Validators for attrs fields that say what was expected and what was got, for whoever wrote the input.

One flaw is a ValueError. A validator that finds several, or one inside the value, raises `InvalidInputError`
with paths that begin at the value (``$[2]``, ``$.name``); `core.structuring` tells each at its place.
"""

import re
from collections.abc import Callable
from typing import Any

import attrs

from econeura_daemon.core.errors import Flaw, InvalidInputError
from econeura_daemon.core.phrases import described, did_you_mean, one_of, shortened

Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def between(low: float, high: float) -> Validator:
    """Validate ``low <= value <= high``."""

    def check(_instance: object, _field: "attrs.Attribute[Any]", value: float) -> None:
        if not low <= value <= high:
            raise ValueError(f"expected {low} to {high}, got {described(value)}")

    return check


def at_least(low: float) -> Validator:
    """Validate ``low <= value``."""

    def check(_instance: object, _field: "attrs.Attribute[Any]", value: float) -> None:
        if value < low:
            raise ValueError(f"expected at least {low}, got {described(value)}")

    return check


def choice(*names: str) -> Validator:
    """Validate that the text is one of ``names``."""

    def check(_instance: object, _field: "attrs.Attribute[Any]", value: str) -> None:
        if value not in names:
            guess = did_you_mean(value, names)
            raise ValueError(f"expected {one_of(names)}, got {shortened(value)!r}{guess}")

    return check


def matching(pattern: str, expected: str) -> Validator:
    """Validate that all of the text matches ``pattern``; ``expected`` says in words what that means."""
    compiled = re.compile(pattern)

    def check(_instance: object, _field: "attrs.Attribute[Any]", value: str) -> None:
        if compiled.fullmatch(value) is None:
            raise ValueError(f"expected {expected}, got {shortened(value)!r}")

    return check


def length(low: int, high: int) -> Validator:
    """Validate how many items or characters there are."""

    def check(_instance: object, _field: "attrs.Attribute[Any]", value: Any) -> None:
        if not low <= len(value) <= high:
            noun = "characters" if isinstance(value, str) else "items"
            raise ValueError(f"expected {low} to {high} {noun}, got {len(value)}")

    return check


def each(validator: Validator) -> Validator:
    """Ask ``validator`` about each item of a tuple; tell each flaw at its item."""

    def check(instance: object, field: "attrs.Attribute[Any]", value: tuple[Any, ...]) -> None:
        flaws = []
        for index, item in enumerate(value):
            try:
                validator(instance, field, item)
            except ValueError as error:
                flaws.append(Flaw(f"$[{index}]", str(error)))
        if flaws:
            raise InvalidInputError(flaws)

    return check


def optional(validator: Validator) -> Validator:
    """Ask ``validator`` about anything but None."""

    def check(instance: object, field: "attrs.Attribute[Any]", value: Any) -> None:
        if value is not None:
            validator(instance, field, value)

    return check
