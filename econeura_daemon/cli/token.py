"""``token``: create, list, revoke. They work on the tokens' file, whether a daemon runs or not."""

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from econeura_daemon.cli.arguments import Instant, Names
from econeura_daemon.cli.config import config_option, read_settings
from econeura_daemon.cli.lazy import LazyGroup
from econeura_daemon.cli.output import Column, Output, output_option
from econeura_daemon.core.clock import SystemClock, parse_instant
from econeura_daemon.server import Scope, Token, create_token, list_tokens, revoke_token

_COLUMNS: list[Column] = [
    ("id", lambda row: row["id"]),
    ("name", lambda row: row["name"]),
    ("scopes", lambda row: row["scopes"]),
    ("created", lambda row: row["createdAt"]),
    ("expires", lambda row: row["expiresAt"]),
]


@click.group(cls=LazyGroup)
def token() -> None:
    """Make, list and revoke access tokens.

    They stand as hashes in the state directory's tokens.json; a running daemon notices a change by itself.
    """


@token.command
@click.argument("name")
@click.option("--scopes", type=Names(), required=True, help="read, publish, admin, or several: read,publish")
@click.option("--expires", type=Instant(ahead=True), help="An RFC 3339 instant, or a span such as 30d.")
@config_option
@output_option
def create(
    *, output: Output, config_file: str | None, name: str, scopes: list[str], expires: str | None
) -> None:
    """Make a token called NAME and show it, this once."""
    state_dir = _state_dir(config_file)
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    expires_at: datetime | None = None if expires is None else parse_instant(expires)
    kept, text = create_token(state_dir, name, _scopes(scopes), SystemClock(), expires_at=expires_at)
    if output.for_people:
        output.rows([_json(kept)], _COLUMNS, empty="")
        click.echo(f"\nIts hash is in {state_dir}; the token itself, which nobody can show again:", err=True)
        click.echo(text)
    else:
        output.item({**_json(kept), "token": text})


@token.command("list")
@config_option
@output_option
def list_(*, output: Output, config_file: str | None) -> None:
    """List the tokens, oldest first."""
    output.rows(map(_json, list_tokens(_state_dir(config_file))), _COLUMNS, empty="No tokens.")


@token.command
@click.argument("token_", metavar="ID|NAME")
@config_option
@output_option
def revoke(*, output: Output, config_file: str | None, token_: str) -> None:
    """Revoke a token; from now on it opens nothing."""
    state_dir = _state_dir(config_file)
    if not state_dir.is_dir():
        from econeura_daemon.core.errors import NotFoundError

        raise NotFoundError("token", token_)
    revoked = revoke_token(state_dir, token_)
    if output.for_people:
        click.echo(f"Revoked {revoked.name} ({revoked.id}).")
    else:
        output.item({**_json(revoked), "revoked": True})


def _scopes(names: list[str]) -> list[Scope]:
    known = {scope.value: scope for scope in Scope}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise click.BadParameter(
            f"expected {', '.join(known)}, got {', '.join(map(repr, unknown))}", param_hint="--scopes"
        )
    return [known[name] for name in names]


def _state_dir(config_file: str | None) -> Path:
    return Path(read_settings(config_file).daemon.state_dir)


def _json(kept: Token) -> dict[str, Any]:
    return {
        "id": kept.id,
        "name": kept.name,
        "scopes": sorted(kept.scopes),
        "createdAt": kept.created_at,
        "expiresAt": kept.expires_at,
    }
