"""One source of settings is a layer: plain values, and for each where it was written.

Everything here is pure: text and mappings go in, layers come out, each with the flaws of its own source.
"""

import itertools
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_origin

import attrs

from econeura_daemon.core.errors import Flaw, InvalidInputError
from econeura_daemon.core.phrases import child_path, closest, did_you_mean, shortened
from econeura_daemon.core.settings import Settings
from econeura_daemon.core.settings_tree import Setting, all_settings, find_setting, variable_of
from econeura_daemon.core.structuring import structure_settings

PREFIX = "ECONEURA__"

Further = Callable[[Mapping[str, Any]], Iterable[Flaw]]
"""Finds what else is wrong with raw settings, whatever else they hold: what only a feature can judge."""


def nothing_further(_raw: Mapping[str, Any]) -> Iterable[Flaw]:
    """Find nothing."""
    return ()


INHERITED: Mapping[str, str] = {
    "SERVICE_DISCOVERY_ENABLED": "discovery.enabled",
    "SERVICE_HEARTBEAT_INTERVAL": "discovery.heartbeat_interval_ms",
    "SERVICE_HEALTH_CHECK_INTERVAL": "discovery.health_check_interval_ms",
    "WEBHOOK_SECRET": "webhooks.secret",
    "WEBHOOK_RETRY_MAX_ATTEMPTS": "webhooks.retry.max_attempts",
    "WEBHOOK_RETRY_DELAY": "webhooks.retry.delay_ms",
    "WORKERS_SERVICE_TYPE": "workers.service_type",
    "WORKERS_TIMEOUT": "mesh.*.timeout_ms",
    "WORKERS_RETRIES": "mesh.*.retries",
    "WORKERS_CIRCUIT_BREAKER_THRESHOLD": "mesh.*.circuit_breaker_threshold",
    "DATABASE_URL": "storage.url",
}
"""Variables of existing installations; ``*`` is the workers' service type. Empty ones count as not set."""

_TRUE = ("true", "1", "yes", "on")
_FALSE = ("false", "0", "no", "off")


@attrs.define
class Layer:
    """What one source says. ``raw`` is nested; ``origins`` name file and line, or variable."""

    keyed: bool = False
    """Its origins are places in a file, so messages name the key beside."""
    raw: dict[str, Any] = attrs.field(factory=dict, repr=False)
    origins: dict[str, str] = attrs.field(factory=dict)
    """By path, as in ``$.webhooks.secret``."""
    flaws: list[Flaw] = attrs.field(factory=list)

    def put(self, path: tuple[str, ...], value: Any, origin: str) -> None:
        """Set the value at ``path``."""
        node = self.raw
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = value
        self.origins[dollar_path(path)] = origin

    def origin_of(self, path: str) -> str | None:
        """Return where the value at ``path`` was written: its own origin, else that of what holds it."""
        inside = [
            known for known in self.origins if path == known or path.startswith((known + ".", known + "["))
        ]
        return self.origins[max(inside, key=len)] if inside else None

    def all_flaws(self, further: Further = nothing_further) -> list[Flaw]:
        """Structure the layer by itself and return everything that is wrong with it."""
        found: list[Flaw] = []
        try:
            structure_settings(self.raw, Settings)
        except InvalidInputError as error:
            found += error.flaws
        told = {flaw.path for flaw in found}
        found += [flaw for flaw in further(self.raw) if flaw.path not in told]
        return [*self.flaws, *map(self._placed, found)]

    def _placed(self, flaw: Flaw) -> Flaw:
        origin = self.origin_of(flaw.path)
        key = flaw.path.removeprefix("$").removeprefix(".")
        place = ": ".join(part for part in (origin, key) if part) if self.keyed else origin or key
        return Flaw(place, flaw.message.replace("an object", "a table"))


def dollar_path(path: Iterable[str]) -> str:
    """Return ``$.webhooks.secret`` for its parts."""
    return "$" + "".join(child_path(part)[1:] for part in path)


# --- the file


def toml_layer(text: str, file: str) -> Layer:
    """Read a configuration file's text. ``file`` is how messages call it."""
    layer = Layer(keyed=True)
    try:
        layer.raw = tomllib.loads(text)
    except RecursionError:
        layer.flaws.append(Flaw(file, "not valid TOML: nested too deeply"))
        return layer
    except tomllib.TOMLDecodeError as error:
        reason, _, where = str(error).partition(" (at line ")
        line = where.partition(",")[0]
        place = f"{file}:{line}" if line.isdigit() else file
        layer.flaws.append(Flaw(place, f"not valid TOML: {reason[:1].lower()}{reason[1:]}"))
        return layer
    layer.origins = {path: f"{file}:{line}" for path, line in _lines_of(text).items()}
    layer.origins.setdefault("$", file)
    return layer


_TABLE = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_KEY_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")


def _lines_of(text: str) -> dict[str, int]:
    """Find the line of each key and table of a valid TOML text, by path. tomllib does not tell."""
    lines: dict[str, int] = {}
    lengths: dict[str, int] = {}
    table = "$"
    string_end = None
    for number, line in enumerate(text.splitlines(), 1):
        if string_end is not None:
            string_end = None if string_end in line else string_end
            continue
        if header := _TABLE.match(line):
            *_, table = paths = _table_paths(header[2], lengths, is_item=header[1] == "[[")
            lines = {**dict.fromkeys(paths, number), **lines}
        elif key := _KEY.match(line):
            lines = {**dict.fromkeys(_key_paths(table, key[1]), number), **lines}
        string_end = next((mark for mark in ('"""', "'''") if line.count(mark) % 2), None)
    return lines


def _table_paths(key: str, lengths: dict[str, int], *, is_item: bool) -> list[str]:
    """Return the paths of a table and of what holds it, outermost first.

    ``lengths``: of the arrays of tables so far, by path; ``is_item``: the table is one more of such an array.
    """
    *holders, last = _parts(key)
    paths = []
    path = "$"
    for part in holders:
        path += part
        paths.append(path)
        if path in lengths:
            path += f"[{lengths[path] - 1}]"
    path += last
    paths.append(path)
    if is_item:
        lengths[path] = lengths.get(path, 0) + 1
        paths.append(f"{path}[{lengths[path] - 1}]")
    return paths


def _key_paths(above: str, key: str) -> list[str]:
    """Return the paths of a dotted key and of the tables that it implies."""
    return list(itertools.accumulate(_parts(key), initial=above))[1:]


def _parts(key: str) -> list[str]:
    return [child_path(part.strip("\"'"))[1:] for part in _KEY_PART.findall(key)]


# --- the environment


def inherited_layer(environ: Mapping[str, str], workers_type: str) -> Layer:
    """Read the variables of existing installations."""
    layer = Layer()
    for variable, name in INHERITED.items():
        text = environ.get(variable)
        if text:
            _put_text(layer, tuple(name.replace("*", workers_type).split(".")), text, variable)
    return layer


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """Read the ``ECONEURA__SECTION__KEY`` variables; one that names no setting is a flaw."""
    layer = Layer()
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable in secret_file_variables():
            continue
        path = tuple(part.lower() for part in variable.removeprefix(PREFIX).split("__"))
        if variable != variable_of(path) or find_setting(path) is None:
            layer.flaws.append(Flaw(variable, _unknown_variable(variable, path)))
        else:
            _put_text(layer, path, text, variable)
    return layer


def secret_file_variables() -> dict[str, str]:
    """Return the variables that name a file with a secret in it, each with its setting, weakest first."""
    inherited = {f"{variable}_FILE": name for variable, name in INHERITED.items() if _is_secret(name)}
    own = {f"{setting.variable}_FILE": setting.name for setting in all_settings() if setting.secret}
    return {**inherited, **own}


def credential_names() -> dict[str, str]:
    """Return the credentials that are looked for, each with its setting, weakest first."""
    inherited = {variable: name for variable, name in INHERITED.items() if _is_secret(name)}
    return {**inherited, **{setting.name: setting.name for setting in all_settings() if setting.secret}}


def _is_secret(name: str) -> bool:
    setting = find_setting(tuple(name.split(".")))
    return setting is not None and setting.secret


def _put_text(layer: Layer, path: tuple[str, ...], text: str, variable: str) -> None:
    setting = find_setting(path)
    assert setting is not None
    try:
        layer.put(path, _parsed(setting, text), variable)
    except ValueError as error:
        layer.flaws.append(Flaw(variable, str(error)))


def _parsed(setting: Setting, text: str) -> Any:
    """Read a variable's text as what the setting holds. ValueError says what was expected."""
    kind = setting.plain_type
    if get_origin(kind) is tuple:
        return [item.strip() for item in text.split(",") if item.strip()]
    if kind is bool:
        if text.lower() in _TRUE + _FALSE:
            return text.lower() in _TRUE
        raise ValueError(f"expected true or false, got {shortened(text)!r}")
    if kind is int:
        if re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            return int(text)
        raise ValueError(f"expected an integer, got {shortened(text)!r}")
    if kind is float:
        if re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", text):
            return float(text)
        raise ValueError(f"expected a number, got {shortened(text)!r}")
    return text


def _unknown_variable(variable: str, path: tuple[str, ...]) -> str:
    if variable.endswith("_FILE") and find_setting((*path[:-1], path[-1].removesuffix("_file"))):
        return "only secrets can be read from a file: " + ", ".join(secret_file_variables())
    known = [setting.variable for setting in all_settings()] + list(secret_file_variables())
    if path[0] == "mesh" and len(path) > 2:
        keys = {
            "__".join(setting.path[2:]): variable_of(("mesh", path[1], *setting.path[2:]))
            for setting in all_settings()
            if setting.path[0] == "mesh"
        }
        key = closest("__".join(path[2:]), keys)
        return "no such setting" + (f"; did you mean {keys[key]!r}?" if key else "")
    return f"no such setting{did_you_mean(variable, known)}"
