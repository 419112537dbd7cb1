"""What users say of subscriptions: the bodies of the API, checked."""

from collections.abc import Iterable
from typing import Any

import attrs

from econeura_daemon.core.errors import Flaw, InvalidInputError
from econeura_daemon.core.validators import Validator, between, each, length, matching, optional
from econeura_daemon.events.patterns import pattern_flaw
from econeura_daemon.webhooks.model import RetryPolicy
from econeura_daemon.webhooks.schedule import STANDARD_SCHEDULE
from econeura_daemon.webhooks.signing import secret_flaw
from econeura_daemon.wire.targets import check_headers, check_url

MAX_RETRIES = 100
DAY_MS = 24 * 3600 * 1000


def _url(_instance: object, _attribute: object, value: str) -> None:
    _refuse(check_url(value, path="$"))


def _patterns(_instance: object, _attribute: object, value: tuple[str, ...]) -> None:
    flaws = [(index, pattern_flaw(pattern)) for index, pattern in enumerate(value)]
    _refuse(Flaw(f"$[{index}]", flaw) for index, flaw in flaws if flaw is not None)


def _secret(_instance: object, _attribute: object, value: str | None) -> None:
    flaw = None if value is None else secret_flaw(value)
    if flaw is not None:
        raise ValueError(flaw)


def _headers(_instance: object, _attribute: object, value: dict[str, str] | None) -> None:
    if value is not None:
        _refuse(check_headers(value, "$"))


def _both(first: Validator, second: Validator) -> Validator:
    def check(instance: object, field: "attrs.Attribute[Any]", value: Any) -> None:
        first(instance, field, value)
        second(instance, field, value)

    return check


_NO_NUL = matching(r"[^\x00]*", "text without NUL")


def _refuse(flaws: Iterable[Flaw]) -> None:
    """Tell every flaw, each with its path inside the field's value."""
    if found := list(flaws):
        raise InvalidInputError(found)


@attrs.frozen(kw_only=True)
class RetryPolicyBody:
    """When a failed delivery is tried again; durations in milliseconds. A given ``schedule`` wins.

    Without ``max_retries`` there are as many as the schedule has waits, else as many as by default.
    """

    max_retries: int | None = attrs.field(default=None, validator=optional(between(0, MAX_RETRIES)))
    retry_delay: int = attrs.field(default=5_000, validator=between(1, DAY_MS))
    backoff_multiplier: float = attrs.field(default=2.0, validator=between(1, 100))
    max_delay: int = attrs.field(default=DAY_MS, validator=between(1, 7 * DAY_MS))
    schedule: tuple[int, ...] | None = attrs.field(
        default=None,
        validator=optional(_both(length(1, MAX_RETRIES), each(between(1, 7 * DAY_MS)))),
    )

    def policy(self) -> RetryPolicy:
        """Return it as the value that the schedule works with."""
        fields = attrs.asdict(self, recurse=False)
        if self.max_retries is None:
            fields["max_retries"] = len(self.schedule or STANDARD_SCHEDULE)
        return RetryPolicy(**fields)


@attrs.frozen(kw_only=True)
class SubscriptionBody:
    """What a subscription consists of and may be changed to: the body of ``PATCH`` once laid over what stands."""

    url: str = attrs.field(validator=_url)
    events: tuple[str, ...] = attrs.field(validator=_both(length(1, 100), _patterns))
    active: bool = True
    description: str | None = attrs.field(default=None, validator=optional(_both(length(0, 1000), _NO_NUL)))
    headers: dict[str, str] | None = attrs.field(default=None, repr=False, validator=_headers)
    retry_policy: RetryPolicyBody | None = None
    max_in_flight: int | None = attrs.field(default=None, validator=optional(between(1, 1000)))


@attrs.frozen(kw_only=True)
class CreateSubscription(SubscriptionBody):
    """The body of ``POST /v1/webhooks/subscriptions``. Without ``secret`` the daemon's is used, or one is made."""

    secret: str | None = attrs.field(default=None, repr=False, validator=_secret)
