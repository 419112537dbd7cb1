"""The exceptions of the daemon, drawn.

    EconeuraError
    ├── InvalidInputError           input does not fit; carries every problem with its path     (400)
    │   └── SettingsError           the configuration does not fit                              (exit 78)
    ├── NotFoundError               no such thing                                               (404)
    │   └── SwitchedOffError        a setting leaves this part of the daemon out                (404)
    ├── ConflictError               the thing's state does not allow it                         (409)
    ├── StateDirectoryHeldError     another daemon holds the state directory                    (exit 75)
    ├── ListenError                 this machine does not let us listen there, now              (exit 1)
    ├── EgressRefusedError          the address may not be called
    └── StoreError
        ├── StoreBusyError          the queue is full: load is shed                             (503)
        ├── StoreFullError          no space left: nothing was stored                           (507)
        ├── StoreUnavailableError   locked, read-only or unreachable: nothing was stored        (503)
        ├── StoreCorruptError       the file is damaged; the operator must restore
        ├── StoreTooNewError        written by a newer version; refused
        └── OutcomeUnknownError     the connection died during the commit: stored or not

An expected failure of a probe, an attempt or a call is a value, never one of these.
"""

from collections.abc import Sequence

import attrs


@attrs.frozen
class Flaw:
    """One thing that is wrong with an input: where (a path such as ``$.events[0]``) and what."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class EconeuraError(Exception):
    """The root of everything that the daemon raises on purpose."""


class InvalidInputError(EconeuraError):
    """Input that does not fit, with all of its flaws at once."""

    def __init__(self, flaws: Sequence[Flaw], summary: str = "The input does not fit") -> None:
        super().__init__(summary)
        self.summary = summary
        self.flaws = tuple(flaws)

    def __str__(self) -> str:
        return "\n".join([self.summary, *(f"  {flaw}" for flaw in self.flaws)])

    @classmethod
    def at(cls, path: str, message: str) -> "InvalidInputError":
        """One flaw, at ``path``."""
        return cls([Flaw(path, message)])


class SettingsError(InvalidInputError):
    """The configuration does not fit; the process exits with 78."""


class NotFoundError(EconeuraError):
    """``kind`` with the id ``key`` does not exist."""

    def __init__(self, kind: str, key: str) -> None:
        super().__init__(f"There is no {kind} {key!r}")
        self.kind = kind
        self.key = key


class SwitchedOffError(NotFoundError):
    """The part ``kind`` is left out by the setting ``key``."""

    def __str__(self) -> str:
        return f"{self.kind} is switched off ({self.key} = false)"


class ConflictError(EconeuraError):
    """The present state does not allow what was asked."""


class RegistryFullError(EconeuraError):
    """The registry holds as many instances as it may."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The registry holds {limit} instances, as many as discovery.max_services allows; "
            "deregister what is not needed, or raise it"
        )


class StateDirectoryHeldError(EconeuraError):
    """Another daemon holds the state directory; the process exits with 75."""


class ListenError(EconeuraError):
    """An address that the configuration names cannot be listened on at present.

    The port is taken, the address is not up yet, a permission is missing: nothing that is wrong with the
    configuration as such, so the process exits with 1 and whoever started it tries again.
    """


class EgressRefusedError(EconeuraError):
    """The egress guard does not allow a call to this address."""


class StoreError(EconeuraError):
    """The store could not do it."""


class StoreBusyError(StoreError):
    """The writer's queue is full."""


class StoreFullError(StoreError):
    """No space is left; nothing was stored."""


class StoreUnavailableError(StoreError):
    """The database is locked, read-only or cannot be reached; nothing was stored."""


class StoreCorruptError(StoreError):
    """The database is damaged; nothing was stored."""


class StoreTooNewError(StoreError):
    """The database was written by a newer version of the daemon."""


class OutcomeUnknownError(StoreError):
    """The commit was under way when the database was lost: stored or not, nobody knows."""
