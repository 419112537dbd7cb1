"""Chunks of a bulk, and what a worker's answer for one says of each of its e-mails. Pure."""

from collections.abc import Sequence
from typing import Any

import attrs

from econeura_daemon.core.phrases import shortened

CHUNK = 50
"""E-mails that are asked for at once (policies of the integration)."""


@attrs.frozen(kw_only=True)
class Item:
    """What became of one e-mail of a bulk."""

    message_id: str
    result: dict[str, Any] | None = None
    error: str | None = None
    """None: it succeeded."""
    service_id: str | None = None
    response_time: int = 0
    """Milliseconds, of its chunk."""
    is_late: bool = False
    """The worker did not come to it in the time that it had: it may be asked again."""

    @property
    def succeeded(self) -> bool:
        """Whether a worker processed it."""
        return self.error is None

    def to_json(self) -> dict[str, Any]:
        """Return it as existing clients know it."""
        told = {"result": self.result} if self.succeeded else {"error": self.error}
        return {
            "messageId": self.message_id,
            "success": self.succeeded,
            **told,
            "serviceId": self.service_id,
            "responseTime": self.response_time,
        }


def chunks(message_ids: Sequence[str]) -> list[tuple[int, tuple[str, ...]]]:
    """Return the chunks with their numbers: number n has the places from n times `CHUNK` on."""
    return [
        (start // CHUNK, tuple(message_ids[start : start + CHUNK]))
        for start in range(0, len(message_ids), CHUNK)
    ]


def distinct(message_ids: Sequence[str]) -> list[str]:
    """Return each once, in order: what is asked for twice is processed once."""
    return list(dict.fromkeys(message_ids))


def failed(
    message_ids: Sequence[str], error: str, service_id: str | None = None, response_time: int = 0
) -> list[Item]:
    """Return that all failed for one reason."""
    return [
        Item(message_id=one, error=error, service_id=service_id, response_time=response_time)
        for one in message_ids
    ]


def items_of(message_ids: Sequence[str], data: Any, service_id: str, response_time: int) -> list[Item]:
    """Return what a worker's ``data`` says of each e-mail that it was asked for, in that order.

    Whatever it says, each has one outcome: order does not matter, what it was not asked for is passed over, of one that
    it tells of twice the first counts, and one that it does not tell of has failed.
    """
    results = data.get("results") if isinstance(data, dict) else None
    if not isinstance(results, list):
        return failed(message_ids, f"{service_id} answered without results", service_id, response_time)
    told: dict[str, dict[str, Any]] = {}
    for one in results:
        if isinstance(one, dict) and isinstance(one.get("messageId"), str):
            told.setdefault(one["messageId"], one)

    def item(message_id: str) -> Item:
        said = told.get(message_id)
        result, error = _told(said, service_id)
        return Item(
            message_id=message_id,
            result=result,
            error=error,
            service_id=service_id,
            response_time=response_time,
            is_late=error is not None and said is not None and said.get("late") is True,
        )

    return [item(one) for one in message_ids]


def _told(said: dict[str, Any] | None, service_id: str) -> tuple[dict[str, Any] | None, str | None]:
    if said is None:
        return None, f"{service_id} did not tell what became of it"
    result = said.get("result")
    if said.get("success") is True:
        if isinstance(result, dict):
            return result, None
        return None, f"{service_id} told of a success without a result"
    error = said.get("error")
    if isinstance(error, dict):
        error = error.get("message")
    return None, shortened(error) if isinstance(error, str) and error else f"{service_id} gave no reason"
