"""From file, environment and credentials to one `Settings`; every mistake at once, each with its place.

Later wins over earlier:

1. the defaults of `core.settings`
2. the configuration file: the one that is named, else ``$ECONEURA_CONFIG``, else /etc/econeura/econeura.toml
3. the variables of existing installations, such as ``WEBHOOK_SECRET``
4. ``ECONEURA__SECTION__KEY``
5. files with secrets that variables name: ``WEBHOOK_SECRET_FILE``, ``ECONEURA__WEBHOOKS__SECRET_FILE`` …
6. systemd credentials: ``webhooks.secret``, ``storage.url`` in ``$CREDENTIALS_DIRECTORY``

`effective` decides and touches nothing; `load_settings` reads what it needs.
"""

import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from econeura_daemon.core.errors import Flaw, InvalidInputError, SettingsError
from econeura_daemon.core.locations import DEFAULT_FILE, state_directory
from econeura_daemon.core.settings import Settings
from econeura_daemon.core.settings_layers import (
    Further,
    Layer,
    credential_names,
    dollar_path,
    environment_layer,
    inherited_layer,
    nothing_further,
    secret_file_variables,
    toml_layer,
)
from econeura_daemon.core.settings_tree import flatten, job_name, service_name
from econeura_daemon.core.structuring import structure_settings

MAX_SECRET_BYTES = 64 * 1024


@attrs.frozen(kw_only=True)
class SecretFile:
    """A file that holds a secret, as it was read: its text, or why there is none."""

    setting: str
    origin: str
    text: str | None = attrs.field(default=None, repr=False)
    problem: str | None = None


@attrs.frozen(kw_only=True)
class Sources:
    """All that settings are made of, already read."""

    environ: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    file: str | None = None
    """The configuration file's name, for messages."""
    file_text: str = attrs.field(default="", repr=False)
    secrets: Sequence[SecretFile] = ()
    """Weakest first."""
    working_directory: str = "/"


@attrs.frozen
class Effective:
    """The settings that hold, and where each that is not a default was written (by its name)."""

    settings: Settings
    origins: Mapping[str, str]


def load_settings(
    path: str | None, environ: Mapping[str, str], further: Further = nothing_further
) -> Effective:
    """Read the settings. ``path``: a configuration file that was named on the command line.

    Raises `SettingsError` with everything that is wrong, what ``further`` finds included.
    """
    sources, flaws = _read_sources(path, environ)
    try:
        found = effective(sources, further)
    except SettingsError as error:
        raise SettingsError([*flaws, *error.flaws], error.summary) from None
    if flaws:
        raise _refusal(flaws)
    return found


def effective(sources: Sources, further: Further = nothing_further) -> Effective:
    """Lay the sources over each other. Raises `SettingsError` with every flaw of every source."""
    file = toml_layer(sources.file_text, sources.file or "configuration")
    own = environment_layer(sources.environ)
    workers_type = _workers_type([file.raw, inherited_layer(sources.environ, "workers").raw, own.raw])
    layers = [file, inherited_layer(sources.environ, workers_type), own, _secrets_layer(sources.secrets)]
    flaws = [flaw for layer in layers for flaw in layer.all_flaws(further)]
    if flaws:
        raise _refusal(flaws)
    raw: dict[str, Any] = {}
    for layer in layers:
        raw = _laid_over(raw, layer.raw)
    defaults = raw.get("mesh", {}).get("default", {})
    raw["mesh"] = {name: _laid_over(defaults, section) for name, section in raw.get("mesh", {}).items()}
    try:
        settings = structure_settings(raw, Settings)
    except InvalidInputError as error:  # what no source gets wrong by itself, but all of them together
        raise _refusal(list(error.flaws)) from None
    settings = _located(settings, sources)
    return Effective(settings, _origins(settings, layers))


def _refusal(flaws: Sequence[Flaw]) -> SettingsError:
    count = "one mistake" if len(flaws) == 1 else f"{len(flaws)} mistakes"
    return SettingsError(flaws, f"The configuration has {count}")


def _workers_type(raws: Sequence[dict[str, Any]]) -> str:
    """Return the service type that ``WORKERS_TIMEOUT`` and its like are about."""
    chosen = "workers"
    for raw in raws:
        section = raw.get("workers")
        given = section.get("service_type") if isinstance(section, dict) else None
        if isinstance(given, str) and given.replace("-", "").replace("_", "").isalnum():
            chosen = given
    return chosen


def _secrets_layer(secrets: Sequence[SecretFile]) -> Layer:
    layer = Layer()
    for secret in secrets:
        text = None if secret.text is None else secret.text.rstrip("\r\n")
        if text:
            layer.put(tuple(secret.setting.split(".")), text, secret.origin)
        else:
            layer.flaws.append(Flaw(secret.origin, secret.problem or "the file is empty"))
    return layer


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = (
            _laid_over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
        )
    return merged


def _located(settings: Settings, sources: Sources) -> Settings:
    """Fill in where state and database are."""
    given = settings.daemon.state_dir or state_directory(sources.environ)
    if given is None:
        raise _refusal(
            [Flaw("daemon.state_dir", "is not set, and neither STATE_DIRECTORY nor HOME says where")]
        )
    if given.startswith("~/") and sources.environ.get("HOME"):
        given = f"{sources.environ['HOME']}{given[1:]}"
    state_dir = os.path.normpath(os.path.join(sources.working_directory, given))  # noqa: PTH118 - text only
    url = settings.storage.url or "sqlite:///{state_dir}/econeura.db"
    return attrs.evolve(
        settings,
        daemon=attrs.evolve(settings.daemon, state_dir=state_dir),
        storage=attrs.evolve(settings.storage, url=url.replace("{state_dir}", state_dir)),
    )


def _origins(settings: Settings, layers: Sequence[Layer]) -> dict[str, str]:
    file = layers[0]
    origins = {
        service_name(service): file.origin_of(f"$.services[{index}]") or ""
        for index, service in enumerate(settings.services)
    } | {
        job_name(job): file.origin_of(f"$.cron.jobs[{index}]") or ""
        for index, job in enumerate(settings.cron.jobs)
    }
    without_lists = attrs.evolve(settings, services=(), cron=attrs.evolve(settings.cron, jobs=()))
    for name in flatten(without_lists):
        path = name.split(".")
        places = [path, ["mesh", "default", *path[2:]]] if path[0] == "mesh" else [path]
        for place, layer in itertools.product(places, reversed(layers)):
            if _holds(layer.raw, place):
                origins[name] = layer.origin_of(dollar_path(place)) or ""
                break
    return origins


def _holds(raw: Any, path: Sequence[str]) -> bool:
    for part in path:
        if not isinstance(raw, dict) or part not in raw:
            return False
        raw = raw[part]
    return True


# --- reading


def _read_sources(path: str | None, environ: Mapping[str, str]) -> tuple[Sources, list[Flaw]]:
    named = path or environ.get("ECONEURA_CONFIG") or None
    file = named or DEFAULT_FILE
    flaws: list[Flaw] = []
    text = ""
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        if named is not None:
            flaws.append(Flaw(file, "there is no such file"))
    except (OSError, UnicodeDecodeError) as error:
        flaws.append(Flaw(file, f"cannot be read: {_why(error)}"))
    return (
        Sources(
            environ=environ,
            file=file,
            file_text=text,
            secrets=_read_secrets(environ),
            working_directory=str(Path.cwd()),
        ),
        flaws,
    )


def _read_secrets(environ: Mapping[str, str]) -> list[SecretFile]:
    found = []
    for variable, setting in secret_file_variables().items():
        if environ.get(variable):
            found.append(_read_secret(Path(environ[variable]), setting, f"{variable} ({environ[variable]})"))
    directory = environ.get("CREDENTIALS_DIRECTORY")
    for name, setting in credential_names().items() if directory else ():
        file = Path(directory or "", name)
        if file.exists():
            found.append(_read_secret(file, setting, f"credential {name}"))
    return found


def _read_secret(file: Path, setting: str, origin: str) -> SecretFile:
    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_SECRET_BYTES + 1)
        if len(raw) > MAX_SECRET_BYTES:
            return SecretFile(setting=setting, origin=origin, problem="the file is too large for a secret")
        return SecretFile(setting=setting, origin=origin, text=raw.decode())
    except (OSError, UnicodeDecodeError) as error:
        return SecretFile(setting=setting, origin=origin, problem=f"cannot be read: {_why(error)}")


def _why(error: OSError | UnicodeDecodeError) -> str:
    """Say why without what the file holds."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return error.strerror or type(error).__name__
