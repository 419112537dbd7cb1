"""The settings tree laid flat: which settings there are, what they hold, what differs between two trees."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, get_args

import attrs

from econeura_daemon.core.settings import CronJobSettings, MeshSettings, ServiceSettings, Settings

ANY_TYPE = "*"
"""Stands in a path for the service type: ``mesh.*.retries``."""

NEEDS_RESTART = (
    "daemon.", "http.", "storage.", "auth.", "discovery.", "webhooks.lease_ms", "log.access",
    "cron.enabled", "cron.lease_ms", "cron.cleanup", "worker.",
)  # fmt: skip
"""What a running daemon has built itself upon; everything else takes effect on SIGHUP."""


_WITH_PASSWORD = {"storage.url", "webhooks.proxy"}
"""URLs; the rest of them may be shown."""
_PASSWORD = re.compile(r"//([^:/?#]*):.*@")
_QUERY_PASSWORD = re.compile(r"([?&](?:ssl)?password=)[^&]*")


@attrs.frozen
class Setting:
    """One setting: its path in the tree, the type it holds, its default; a secret is never shown."""

    path: tuple[str, ...]
    type: Any
    default: Any
    secret: bool

    @property
    def name(self) -> str:
        """As it is written: ``webhooks.retry.delay_ms``."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """The environment variable that sets it: ``ECONEURA__WEBHOOKS__RETRY__DELAY_MS``."""
        return variable_of(self.path)

    @property
    def plain_type(self) -> Any:
        """Its type without ``None``."""
        rest = [member for member in get_args(self.type) if member is not type(None)]
        return rest[0] if len(rest) == 1 and type(None) in get_args(self.type) else self.type


def variable_of(path: tuple[str, ...]) -> str:
    """Return the environment variable for a setting's path."""
    return "__".join(["ECONEURA", *(part.upper() for part in path)])


@cache
def all_settings() -> tuple[Setting, ...]:
    """Return every setting there is, in the tree's order; those of the mesh once, under ``mesh.*``."""
    return tuple(_settings_of(Settings, ()))


def find_setting(path: tuple[str, ...]) -> Setting | None:
    """Return the setting at ``path``; under ``mesh`` any second part will do."""
    if len(path) > 2 and path[0] == "mesh":
        path = ("mesh", ANY_TYPE, *path[2:])
    return _by_path().get(path)


@cache
def _by_path() -> Mapping[tuple[str, ...], Setting]:
    return {setting.path: setting for setting in all_settings()}


def _settings_of(cls: type, above: tuple[str, ...]) -> Iterator[Setting]:
    attrs.resolve_types(cls)
    for field in attrs.fields(cls):
        path = (*above, field.name)
        if path in {("services",), ("cron", "jobs")}:
            continue  # a list of tables, which no variable can hold
        if field.name == "mesh" and not above:
            yield from _settings_of(MeshSettings, (*path, ANY_TYPE))
        elif isinstance(field.type, type) and attrs.has(field.type):
            yield from _settings_of(field.type, path)
        else:
            yield Setting(path, field.type, field.default, secret=not field.repr)


def flatten(settings: Settings) -> dict[str, Any]:
    """Return the value of each setting by its name; for the mesh one entry a type that has a section.

    A static service is one entry, ``services.<id>``, and a declared job ``cron.jobs.<id>``.
    """
    return dict(_values_of(settings, ""))


def _values_of(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for field in attrs.fields(type(node)):
        value = getattr(node, field.name)
        name = prefix + field.name
        if attrs.has(type(value)):
            yield from _values_of(value, name + ".")
        elif name == "mesh":
            for service_type, section in value.items():
                yield from _values_of(section, f"mesh.{service_type}.")
        elif name == "services":
            yield from ((service_name(service), service) for service in value)
        elif name == "cron.jobs":
            yield from ((job_name(job), job) for job in value)
        else:
            yield name, value


def secrets_of(settings: Settings) -> list[str]:
    """Return the values of the secrets that are secret as a whole; those in URLs are told by their shape."""
    values = flatten(settings)
    whole = [one.name for one in all_settings() if one.secret and one.name not in _WITH_PASSWORD]
    return [values[name] for name in whole if values[name] is not None]


def service_name(service: ServiceSettings) -> str:
    """Return how a static service is called among the settings."""
    return f"services.{service.key}"


def job_name(job: CronJobSettings) -> str:
    """Return how a declared job is called among the settings."""
    return f"cron.jobs.{job.key}"


def shown(name: str, value: Any) -> str | float | bool | list[str] | None:
    """Return a setting's value as it may be shown: no secret, no password of a database or a proxy."""
    setting = find_setting(tuple(name.split(".")))
    if name in _WITH_PASSWORD and value is not None:
        return _QUERY_PASSWORD.sub(r"\1***", _PASSWORD.sub(r"//\1:***@", value))
    if setting is not None and setting.secret:
        return None if value is None else "***"
    if isinstance(value, ServiceSettings):
        host = f"[{value.host}]" if ":" in value.host else value.host
        where = f"{value.type} at {value.scheme}://{host}:{value.port}"
        return f"{where}, each address of it" if value.resolve else where
    if isinstance(value, CronJobSettings):
        off = "" if value.enabled else ", disabled"
        return f"{value.action.kind.value} at {value.schedule} ({value.time_zone}){off}"
    if isinstance(value, tuple):
        return [str(item) for item in value]
    plain: str | float | bool | None = value
    return plain


@attrs.frozen
class Changes:
    """Which settings differ between two trees, by name."""

    live: tuple[str, ...]
    """Take effect on a reload."""
    on_restart: tuple[str, ...]
    """Are read, and take effect at the next start."""


def changes(old: Settings, new: Settings) -> Changes:
    """Tell what differs, and what of it a running daemon can take over."""
    before, after = flatten(old), flatten(new)
    differing = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return Changes(
        live=tuple(name for name in differing if not name.startswith(NEEDS_RESTART)),
        on_restart=tuple(name for name in differing if name.startswith(NEEDS_RESTART)),
    )
