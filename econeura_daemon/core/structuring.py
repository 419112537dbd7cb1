"""Strict structuring: plain data (JSON, TOML) to frozen attrs classes, or every flaw at once.

cattrs finds the hook for each type; the hooks are ours, because its own coerce (5 becomes "5", "abc" becomes
["a", "b", "c"]), stop at the first validator and hide what it said. What a field's type allows:

    str, int, bool, float     exactly that JSON type; an integer stands for a float too, NaN for none
    X | None                  null, or X
    X | Unset                 X; not given is `UNSET` (the field's default), which tells it from null
    tuple[X, ...]             a list
    dict[str, X], Mapping     an object; ``dict[str, Any]`` is taken as it is
    an enum                   one of its values
    an attrs class            an object with its keys and no others; validators are asked, all of them
    datetime                  an RFC 3339 instant
    IPv4Network | IPv6Network a network such as 10.0.0.0/8

A field with ``repr=False`` is a secret: its value stands in no message.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from types import UnionType
from typing import Any, TypeVar, Union, get_origin

import attrs
import cattrs

from econeura_daemon.core.errors import Flaw, InvalidInputError
from econeura_daemon.core.phrases import child_path, closest, kind_of
from econeura_daemon.core.structuring_hooks import (
    MAX_FLAWS,
    UNSET,
    Hook,
    Unset,
    adopt,
    exactly,
    hook_of,
    mapping_hook,
    refuse,
    structure_float,
    structure_instant,
    tuple_hook,
    union_hook,
)

__all__ = ["MAX_FLAWS", "UNSET", "Unset", "key_of", "structure_json", "structure_settings"]

T = TypeVar("T")


def structure_json(raw: object, cls: type[T]) -> T:
    """Structure a JSON value with camelCase keys.

    Raises `InvalidInputError` with every flaw (at most `MAX_FLAWS`), and nothing else whatever ``raw`` is.
    """
    return _structure(_JSON, raw, cls)


def structure_settings(raw: object, cls: type[T]) -> T:
    """Structure settings, with keys named as the fields are. Raises as `structure_json` does."""
    return _structure(_SETTINGS, raw, cls)


def key_of(field_name: str) -> str:
    """Return the JSON key of a field: ``max_in_flight`` is ``maxInFlight``."""
    first, *rest = field_name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def _structure(converter: cattrs.BaseConverter, raw: object, cls: type[T]) -> T:
    try:
        value: T = hook_of(cls, converter)(raw, cls)
    except InvalidInputError as error:
        if len(error.flaws) <= MAX_FLAWS:
            raise
        more = Flaw("$", f"only the first {MAX_FLAWS} flaws are listed")
        raise InvalidInputError([*error.flaws[:MAX_FLAWS], more]) from None
    return value


# --- attrs classes


class _Keys:
    """How an attrs class is read: which key belongs to which field, and the field's hook."""

    def __init__(self, cls: type, converter: cattrs.BaseConverter, key: Callable[[str], str]) -> None:
        attrs.resolve_types(cls)
        self.fields = {key(field.name): field for field in attrs.fields(cls) if field.init}
        self.hooks: dict[str, tuple[str, Hook | None]] = {
            name: (field.alias, None if field.type is Any else hook_of(field.type, converter))
            for name, field in self.fields.items()
        }
        self.required = frozenset(
            name for name, field in self.fields.items() if field.default is attrs.NOTHING
        )


def _class_hook(key: Callable[[str], str]) -> Callable[[Any, cattrs.BaseConverter], Hook]:
    def factory(cls: Any, converter: cattrs.BaseConverter) -> Hook:
        keys: _Keys | None = None

        def structure(raw: Any, _: Any) -> Any:
            nonlocal keys
            if keys is None:  # not before it is needed, so that a class may hold its own kind
                keys = _Keys(cls, converter, key)
            if type(raw) is not dict:
                raise refuse("an object", raw)
            hooks = keys.hooks
            values = {}
            try:
                for name, value in raw.items():
                    argument, hook = hooks[name]
                    values[argument] = value if hook is None else hook(value, None)
                return cls(**values)
            except (KeyError, TypeError, ValueError, InvalidInputError):
                raise InvalidInputError(_flaws(cls, keys, raw)) from None

        return structure

    return factory


def _flaws(cls: type, keys: _Keys, raw: dict[str, Any]) -> list[Flaw]:
    """Look again, slowly, at what could not be structured, and list all that is wrong with it."""
    flaws: list[Flaw] = []
    values: dict[str, Any] = {}
    for name, value in raw.items():
        if len(flaws) > MAX_FLAWS:
            return flaws
        if name not in keys.fields:
            flaws.append(Flaw(child_path(name), f"unknown key{_suggestion(name, keys, raw)}"))
            continue
        hook = keys.hooks[name][1]
        try:
            values[name] = value if hook is None else hook(value, None)
        except InvalidInputError as error:
            adopt(flaws, child_path(name), _discreet(error, value, keys.fields[name]))
    flaws.extend(
        Flaw(child_path(name), "is missing") for name in keys.fields if name in keys.required - raw.keys()
    )
    flaws.extend(_verdicts(cls, keys, values))
    if not flaws:
        flaws.append(Flaw("$", _reason(cls, keys, values)))
    return flaws


def _verdicts(cls: type, keys: _Keys, values: dict[str, Any]) -> list[Flaw]:
    """Ask each field's validator. They see an instance that holds the fields that are well."""
    instance: object = object.__new__(cls)
    for name, value in values.items():
        object.__setattr__(instance, keys.fields[name].name, value)
    flaws: list[Flaw] = []
    for name, value in values.items():
        field = keys.fields[name]
        if field.validator is None:
            continue
        try:
            field.validator(instance, field, value)
        except AttributeError:
            continue  # it compares with a field that is not there, and that is said already
        except InvalidInputError as error:
            said = [Flaw(flaw.path, _discreetly(flaw.message, field, value)) for flaw in error.flaws]
            adopt(flaws, child_path(name), InvalidInputError(said))
        except (TypeError, ValueError) as error:
            flaws.append(Flaw(child_path(name), _validator_said(error, field, value)))
    return flaws


def _reason(cls: type, keys: _Keys, values: dict[str, Any]) -> str:
    """Build it once more to hear what ``__attrs_post_init__`` has to say."""
    try:
        cls(**{keys.fields[name].alias: value for name, value in values.items()})
    except (TypeError, ValueError) as error:
        return str(error)
    raise AssertionError(f"{cls} took at the second time what it refused at the first")


def _validator_said(error: Exception, field: "attrs.Attribute[Any]", value: object) -> str:
    """Return attrs' or a validator's own message, without the field's name: the path says it."""
    message = str(error.args[0]) if error.args else "does not fit"
    return _discreetly(message.removeprefix(f"'{field.name}' "), field, value)


def _discreetly(message: str, field: "attrs.Attribute[Any]", value: object) -> str:
    """Leave what a secret field got out of a validator's message."""
    if field.repr:
        return message
    message = message.partition(", got ")[0]
    beginning = str(value)[:8]
    return "does not fit; what it holds is not shown" if beginning and beginning in message else message


def _discreet(error: InvalidInputError, value: object, field: "attrs.Attribute[Any]") -> InvalidInputError:
    """Leave what a secret field got out of the messages about it."""
    if field.repr:
        return error
    flaws = []
    for flaw in error.flaws:
        expected = flaw.message.partition(", got ")[0]
        flaws.append(Flaw(flaw.path, f"{expected}, got {kind_of(value)}" if flaw.path == "$" else expected))
    return InvalidInputError(flaws)


def _suggestion(name: str, keys: _Keys, raw: dict[str, Any]) -> str:
    """Suggest a key that resembles ``name`` and was not given, else name all keys where they are few."""
    free = [key for key in keys.fields if key not in raw]
    guess = closest(name, free)
    return f"; did you mean {guess!r}?" if guess else f"; the keys are {', '.join(keys.fields)}"


# --- the two converters


def _converter(key: Callable[[str], str]) -> cattrs.BaseConverter:
    converter = cattrs.BaseConverter(detailed_validation=False)
    converter.register_structure_hook(str, exactly(str, "a string"))
    converter.register_structure_hook(int, exactly(int, "an integer"))
    converter.register_structure_hook(bool, exactly(bool, "true or false"))
    converter.register_structure_hook(float, structure_float)
    converter.register_structure_hook(datetime, structure_instant)
    converter.register_structure_hook_func(lambda cls: cls is Any, lambda raw, _: raw)
    factories: list[tuple[Callable[[Any], bool], Callable[[Any, cattrs.BaseConverter], Hook]]] = [
        (lambda cls: get_origin(cls) is tuple, tuple_hook),
        (lambda cls: get_origin(cls) in {dict, Mapping}, mapping_hook),
        (lambda cls: get_origin(cls) in {Union, UnionType}, union_hook),
        (lambda cls: isinstance(cls, type) and attrs.has(cls), _class_hook(key)),
    ]
    for predicate, factory in factories:
        converter.register_structure_hook_factory(predicate, factory)
    return converter


_JSON = _converter(key_of)
_SETTINGS = _converter(str)
