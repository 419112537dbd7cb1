"""Access tokens: who may call, kept as hashes in one file of the state directory.

The file, ``tokens.json``, is small and rarely written: every change is a new file (mode 0600) that is flushed
to disk and renamed over the old one, under a lock, so the command line may change it while the daemon runs.
The daemon looks at the file's identity whenever a token is presented and reads it again when it changed.

A token is 256 random bits, so a plain SHA-256 is enough: there is nothing to guess. Looking a hash up takes a
time that tells nothing about the token.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import secrets
from collections.abc import Generator, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from random import SystemRandom

import attrs

from econeura_daemon.core.clock import Clock, format_instant, parse_instant
from econeura_daemon.core.errors import ConflictError, InvalidInputError, NotFoundError, SettingsError
from econeura_daemon.core.ids import new_id
from econeura_daemon.core.jsons import dumps, loads
from econeura_daemon.core.owners import give_to_owner_of
from econeura_daemon.server.context import Principal, Scope

log = logging.getLogger(__name__)

FILE = "tokens.json"
PREFIX = "eco_"
"""What makes a bearer token ours; another service's, on its way through the mesh, does not begin so."""

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_SECRET_BYTES = 32
_SECRET_LENGTH = 43  # 62 ** 43 > 256 ** 32
_NAME = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,62}[\x21-\x7e])?")
_HASH = re.compile(r"[0-9a-f]{64}")


@attrs.frozen
class Token:
    """What is kept of a token."""

    id: str
    name: str
    scopes: frozenset[Scope]
    hash: str
    created_at: str
    expires_at: str | None = None

    def is_expired(self, now: datetime) -> bool:
        """Tell whether its time is over."""
        return self.expires_at is not None and parse_instant(self.expires_at) <= now


def create_token(
    state_dir: Path, name: str, scopes: Iterable[Scope], clock: Clock, *, expires_at: datetime | None = None
) -> tuple[Token, str]:
    """Make a token and keep its hash; return what is kept, and the text, which nobody can show again.

    Raises `InvalidInputError` for a name or scopes that do not fit, `ConflictError` for a name that is taken.
    """
    scopes = frozenset(scopes)
    if not _NAME.fullmatch(name):
        raise InvalidInputError.at("$.name", f"expected 1 to 64 printable characters, got {name!r}")
    if not scopes:
        raise InvalidInputError.at("$.scopes", "expected at least one of read, publish, admin")
    now = clock.now()
    if expires_at is not None and expires_at <= now:
        raise InvalidInputError.at("$.expiresAt", f"{format_instant(expires_at)} is in the past")
    text = PREFIX + _base62(int.from_bytes(secrets.token_bytes(_SECRET_BYTES)))
    token = Token(
        id=new_id("tok", now, SystemRandom()),
        name=name,
        scopes=scopes,
        hash=_digest(text),
        created_at=format_instant(now),
        expires_at=None if expires_at is None else format_instant(expires_at),
    )
    with _changing(state_dir) as tokens:
        if any(kept.name == name for kept in tokens):
            raise ConflictError(
                f"There is a token named {name!r} already: revoke it first, or choose another name"
            )
        tokens.append(token)
    return token, text


def list_tokens(state_dir: Path) -> list[Token]:
    """Return every token, oldest first. Raises `SettingsError` for a damaged file."""
    return read_tokens(state_dir / FILE)


def revoke_token(state_dir: Path, id_or_name: str) -> Token:
    """Forget a token; a running daemon refuses it from then on. Raises `NotFoundError`."""
    with _changing(state_dir) as tokens:
        for token in tokens:
            if id_or_name in {token.id, token.name}:
                tokens.remove(token)
                return token
        raise NotFoundError("token", id_or_name)


class TokenFile:
    """The running daemon's view of the tokens."""

    def __init__(self, state_dir: Path) -> None:
        """Read the file; a damaged one raises `SettingsError`, a missing one holds no tokens."""
        self._path = state_dir / FILE
        self._identity = _identity(self._path)
        self._by_hash = {token.hash: token for token in read_tokens(self._path)}

    @property
    def has_tokens(self) -> bool:
        """Whether there is any."""
        return bool(self._by_hash)

    def authenticate(self, text: str, now: datetime) -> Principal | None:
        """Return who presents ``text``; None if nobody known does, or if the file was damaged meanwhile."""
        self._notice_change()
        token = self._by_hash.get(_digest(text))
        if token is None or token.is_expired(now):
            return None
        return Principal(token.name, token.scopes)

    def _notice_change(self) -> None:
        identity = _identity(self._path)
        if identity == self._identity:
            return
        self._identity = identity
        try:
            self._by_hash = {token.hash: token for token in read_tokens(self._path)}
        except SettingsError as error:
            # Fails closed: nobody gets in by a token until the file can be read again.
            self._by_hash = {}
            log.error("no token is accepted: %s", error)  # noqa: TRY400 - no traceback into the log


def read_tokens(path: Path) -> list[Token]:
    """Read the file; without one there are none. Raises `SettingsError` that says what is wrong."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SettingsError.at(str(path), f"cannot be read: {error.strerror}") from error
    try:
        return [_token(dict(kept)) for kept in loads(raw)["tokens"]]
    except (InvalidInputError, KeyError, TypeError, ValueError) as error:
        raise SettingsError.at(
            str(path), "is damaged: restore it from a backup, or remove it and create the tokens anew"
        ) from error


def _token(kept: dict[str, object]) -> Token:
    expires_at = kept.get("expiresAt")
    scopes = kept["scopes"]
    texts = [kept[key] for key in ("id", "name", "hash", "createdAt")]
    if not all(isinstance(text, str) for text in texts) or not isinstance(scopes, list):
        raise TypeError
    if not _HASH.fullmatch(str(kept["hash"])):
        raise ValueError
    if expires_at is not None:
        parse_instant(str(expires_at))
    return Token(
        id=str(kept["id"]),
        name=str(kept["name"]),
        scopes=frozenset(Scope(scope) for scope in scopes),
        hash=str(kept["hash"]),
        created_at=str(kept["createdAt"]),
        expires_at=None if expires_at is None else str(expires_at),
    )


@contextlib.contextmanager
def _changing(state_dir: Path) -> Generator[list[Token]]:
    """Lend the tokens for a change; write them if the block ends well."""
    path = state_dir / FILE
    with contextlib.ExitStack() as stack:
        lock = os.open(state_dir / f"{FILE}.lock", _LOCK_FLAGS, 0o600)
        stack.callback(os.close, lock)
        give_to_owner_of(state_dir, lock)
        fcntl.flock(lock, fcntl.LOCK_EX)
        tokens = read_tokens(path)
        yield tokens
        _write(path, tokens)


def _write(path: Path, tokens: Sequence[Token]) -> None:
    content = dumps(
        {
            "version": 1,
            "tokens": [
                {
                    "id": token.id,
                    "name": token.name,
                    "scopes": sorted(token.scopes),
                    "hash": token.hash,
                    "createdAt": token.created_at,
                    "expiresAt": token.expires_at,
                }
                for token in tokens
            ],
        }
    )
    draft = path.with_name(f"{FILE}.new")
    draft.unlink(missing_ok=True)
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        give_to_owner_of(path.parent, fd)
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(content + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _base62(number: int) -> str:
    digits = []
    for _ in range(_SECRET_LENGTH):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(digits)
