"""What is said of a cron job, through the API or by the configuration: the same words, checked in the same way.

Whether a schedule can be read is `cron`'s to say (`cron.commands`).
"""

import enum
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import attrs

from econeura_daemon.core.errors import Flaw, InvalidInputError
from econeura_daemon.core.instances import check_type
from econeura_daemon.core.jsons import MAX_DEPTH, dumps, loads
from econeura_daemon.core.phrases import described, did_you_mean, one_of
from econeura_daemon.core.structuring import key_of
from econeura_daemon.core.validators import Validator, between, length, matching, optional

_Body = TypeVar("_Body")

SECOND_MS = 1000
HOUR_MS = 3600 * SECOND_MS
DAY_MS = 24 * HOUR_MS
MAX_BODY_BYTES = 256 * 1024
"""Of what an action sends or publishes."""
ID = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"

_check_line = matching(r"[^\x00-\x1f\x7f]{1,128}", "1 to 128 characters, none of them a control character")
_check_header_name = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_check_header_value = re.compile(r"[\t\x20-\x7e]{0,4096}")
_RESERVED_HEADERS = frozenset(
    ("connection", "content-length", "expect", "host", "idempotency-key", "keep-alive", "te", "trailer",
     "transfer-encoding", "upgrade")
)  # fmt: skip
"""What the run's own key and the framing of the request say."""

CONTRACT = "contract"
"""In a field's metadata: its type for users, where the process itself may say more."""

check_job_id = matching(ID, "1 to 64 of A-Z, a-z, 0-9, '_', '.' and '-', beginning with a letter or digit")


class ActionKind(enum.StrEnum):
    """What a job does: call a service, publish an event, or one of the tasks of the process itself."""

    REQUEST = "request"
    EVENT = "event"
    MAINTENANCE = "maintenance"


class Overlap(enum.StrEnum):
    """What becomes of a tick while a run of the job is under way."""

    SKIP = "skip"
    QUEUE = "queue"
    ALLOW = "allow"


class Misfire(enum.StrEnum):
    """What becomes of ticks that fell due while nobody was there to run them."""

    LATEST = "latest"
    ALL = "all"
    SKIP = "skip"


class DstGap(enum.StrEnum):
    """What becomes of a tick in the hour that a time zone leaves out: run at the gap's end, or skip."""

    RUN = "run"
    SKIP = "skip"


class DstFold(enum.StrEnum):
    """How often a tick in the hour that a time zone repeats runs."""

    ONCE = "once"
    TWICE = "twice"


class Task(enum.StrEnum):
    """The daemon's own tasks, and all that may be asked of it; another process that composes cron names its own."""

    CLEANUP = "cleanup"
    BACKUP = "backup"
    ANALYTICS_ROLLUP = "analytics_rollup"


_DOTS = re.compile(r"/(?:\.|%2e){1,2}(?=[/?]|$)", re.IGNORECASE)


def _check_path(_instance: object, _field: object, value: str) -> None:
    """Refuse what services would not read as it is written: it goes out as it is."""
    if "#" in value:
        raise ValueError("a fragment (#) is not sent (RFC 9110 7.1); write %23 for the character")
    if _DOTS.search(value.partition("?")[0]):
        raise ValueError("expected no '.' or '..' as a segment: write the path that it comes to")


def _check_method(_instance: object, _field: object, value: str) -> None:
    if value == "CONNECT":
        raise ValueError("CONNECT opens a tunnel, and no job can use one")


def _check_json(_instance: object, _field: object, value: Any) -> None:
    try:
        written = dumps(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot be written as JSON: {error}") from None
    if len(written) > MAX_BODY_BYTES:
        raise ValueError(f"expected at most {MAX_BODY_BYTES} bytes of JSON, got {len(written)}")
    # It is read again as a part of the job, two levels down.
    if value and loads(written, max_depth=MAX_DEPTH - 2) != value:
        raise ValueError("expected what JSON can hold: no dates, no times, neither nan nor inf")


def _check_headers(_instance: object, _field: object, value: dict[str, str] | None) -> None:
    flaws = []
    for name, text in (value or {}).items():
        if _check_header_name.fullmatch(name) is None:
            flaws.append(Flaw(f"$[{name[:60]!r}]", "is no name of a header (RFC 9110 5.1)"))
        elif name.lower() in _RESERVED_HEADERS:
            flaws.append(Flaw(f"$[{name!r}]", "the daemon sets this header itself"))
        elif _check_header_value.fullmatch(text) is None:
            flaws.append(Flaw(f"$[{name!r}]", "expected at most 4096 printable ASCII characters"))
    if flaws:
        raise InvalidInputError(flaws)


def _both(first: Validator, second: Validator) -> Validator:
    def check(instance: object, field: "attrs.Attribute[Any]", value: Any) -> None:
        first(instance, field, value)
        second(instance, field, value)

    return check


_OF_KIND = {
    ActionKind.REQUEST: (("service", "method", "path"), ("body", "headers")),
    ActionKind.EVENT: (("type",), ("data",)),
    ActionKind.MAINTENANCE: (("task",), ()),
}
"""By kind: the keys that it needs, and those that it may have."""


@attrs.frozen(kw_only=True)
class ActionBody:
    """What a job does: which keys there are depends on ``kind``."""

    kind: ActionKind
    service: str | None = attrs.field(default=None, validator=optional(check_type))
    method: str | None = attrs.field(
        default=None,
        validator=optional(
            _both(matching(r"[A-Z]{1,16}", "a method in capitals, such as POST"), _check_method)
        ),
    )
    path: str | None = attrs.field(
        default=None,
        validator=optional(
            _both(
                matching(
                    r"/[\x21-\x7e]{0,2047}", "a path that begins with / and has no blanks, percent-encoded"
                ),
                _check_path,
            )
        ),
    )
    body: Any = attrs.field(default=None, validator=_check_json)
    headers: dict[str, str] | None = attrs.field(
        default=None, validator=optional(_both(length(0, 32), _check_headers))
    )
    type: str | None = attrs.field(
        default=None,
        validator=optional(
            _both(
                length(1, 128),
                matching(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*", "an event type such as 'order.paid'"),
            )
        ),
    )
    data: dict[str, Any] | None = attrs.field(default=None, validator=_check_json)
    task: str | None = attrs.field(
        default=None,
        validator=optional(matching(ID, "the name of a task")),
        metadata={CONTRACT: Task | None},
    )
    """Whether there is such a task says `check_task`, where users name it, and the process that is to run it."""

    def __attrs_post_init__(self) -> None:
        """Raise `InvalidInputError` for keys that are missing, or are another kind's."""
        needed, possible = _OF_KIND[self.kind]
        flaws = [
            Flaw(f"$.{name}", f"is missing: an action of kind {self.kind.value!r} needs it")
            for name in needed
            if getattr(self, name) is None
        ]
        flaws += [
            Flaw(f"$.{field.name}", f"an action of kind {self.kind.value!r} has no such key")
            for field in attrs.fields(type(self))
            if field.name not in {"kind", *needed, *possible} and getattr(self, field.name) is not None
        ]
        if flaws:
            raise InvalidInputError(flaws)

    def to_json(self) -> dict[str, Any]:
        """Return the action as the API shows it: the keys of its kind that it has."""
        needed, possible = _OF_KIND[self.kind]
        given = {name: getattr(self, name) for name in (*needed, *possible)}
        return {
            "kind": self.kind.value,
            **{name: value for name, value in given.items() if value is not None},
        }


def check_task(_instance: object, _field: object, value: ActionBody) -> None:
    """Return if the action's task, where it has one, is the daemon's; a validator."""
    if value.task is not None and value.task not in set(Task):
        names = [task.value for task in Task]
        guess = did_you_mean(value.task, names)
        raise InvalidInputError.at("$.task", f"expected {one_of(names)}, got {described(value.task)}{guess}")


@attrs.frozen(kw_only=True)
class JobBody:
    """What everybody may say of a job. Durations in milliseconds."""

    name: str = attrs.field(validator=_check_line)
    schedule: str = attrs.field(validator=length(1, 512))
    time_zone: str = attrs.field(default="UTC", validator=length(1, 64))
    enabled: bool = True
    action: ActionBody
    overlap: Overlap = Overlap.SKIP
    misfire: Misfire = Misfire.LATEST
    misfire_window_ms: int = attrs.field(default=HOUR_MS, validator=between(0, 31 * DAY_MS))
    """How late a tick may still be run."""
    jitter_ms: int = attrs.field(default=0, validator=between(0, DAY_MS))
    """A job runs later than its schedule by up to this much, always by the same."""
    timeout_ms: int = attrs.field(default=300 * SECOND_MS, validator=between(100, DAY_MS))
    """One attempt."""
    retries: int = attrs.field(default=1, validator=between(0, 100))
    """Attempts beyond the first."""
    dst_gap: DstGap = DstGap.RUN
    dst_fold: DstFold = DstFold.ONCE
    pause_after_failures: int | None = attrs.field(default=None, validator=optional(between(1, 10_000)))
    """Runs that failed one after the other, after which the daemon disables the job; None: it never does."""

    def to_json(self) -> dict[str, Any]:
        """Return it as the API shows it, and as it is stored."""
        return {
            "name": self.name,
            "schedule": self.schedule,
            "timeZone": self.time_zone,
            "enabled": self.enabled,
            "action": self.action.to_json(),
            "overlap": self.overlap.value,
            "misfire": self.misfire.value,
            "misfireWindowMs": self.misfire_window_ms,
            "jitterMs": self.jitter_ms,
            "timeoutMs": self.timeout_ms,
            "retries": self.retries,
            "dstGap": self.dst_gap.value,
            "dstFold": self.dst_fold.value,
            "pauseAfterFailures": self.pause_after_failures,
        }

    @classmethod
    def stored(cls, raw: dict[str, Any]) -> "JobBody":
        """Return what `to_json` wrote, unchecked.

        It was checked when it came in; rules that became stricter since must not take a job away from those who run
        it, and jobs are read at every tick.
        """
        action = raw["action"]
        said = {
            "action": _unchecked(ActionBody, {**action, "kind": ActionKind(action["kind"])}),
            **{name: kind(raw[key]) for key, name, kind in _CHOICES if key in raw},
        }
        return _unchecked(JobBody, {name: raw[key] for key, name in _KEYS if key in raw} | said)


_KEYS = [(key_of(field.name), field.name) for field in attrs.fields(JobBody)]
_CHOICES = (
    ("overlap", "overlap", Overlap),
    ("misfire", "misfire", Misfire),
    ("dstGap", "dst_gap", DstGap),
    ("dstFold", "dst_fold", DstFold),
)


_SLOTS: dict[type, list[tuple[str, Any, Any]]] = {
    cls: [(field.name, vars(cls)[field.name].__set__, field.default) for field in attrs.fields(cls)]
    for cls in (ActionBody, JobBody)
}
"""Of each field its name, what writes it, and its default."""


def _unchecked(cls: type[_Body], values: Mapping[str, Any]) -> _Body:
    made = cls.__new__(cls)
    for name, write, default in _SLOTS[cls]:
        write(made, values.get(name, default))
    return made
