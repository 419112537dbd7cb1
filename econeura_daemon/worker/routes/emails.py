"""E-mails, as daemons ask for them to be processed."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import trio
from quart import Response, request

from econeura_daemon.api.bodies import idempotency_key, read_body
from econeura_daemon.api.context import request_context, trace_of
from econeura_daemon.api.hot import reply_once, to_quart
from econeura_daemon.api.idempotency import Deed
from econeura_daemon.api.problems import problem_reply
from econeura_daemon.api.routing import Answered, Routes
from econeura_daemon.api.schemas import ANY_OBJECT, BOOLEAN, STRING, listed, maybe, obj
from econeura_daemon.api.services import services
from econeura_daemon.core.errors import EconeuraError, InvalidInputError
from econeura_daemon.core.jsons import dumps
from econeura_daemon.core.phrases import shortened
from econeura_daemon.core.validators import each, length
from econeura_daemon.primitives.errors import QueueFullError
from econeura_daemon.server import Problem, Scope
from econeura_daemon.worker.mails import Asked, Ended, MailFaultError, MailLateError, MailRefusedError
from econeura_daemon.worker.mailstore import MailStoreUnavailableError, MessageNotFoundError
from econeura_daemon.worker.processing import ProcessorsUnavailableError
from econeura_daemon.worker.services import worker
from econeura_daemon.workers import Email, Priority, ProcessEmail
from econeura_daemon.workers.commands import check_message_id, check_organization_id

routes = Routes("Workers service")

MOST = 1000
"""Of one bulk; daemons send 50."""
_RETRY_LATER = ((b"retry-after", b"5"),)
_SLUGS: Mapping[type[EconeuraError], str] = {
    MessageNotFoundError: "message-not-found",
    MailRefusedError: "mail-unprocessable",
    MailFaultError: "internal-error",
    MailStoreUnavailableError: "mail-store-unavailable",
    ProcessorsUnavailableError: "processors-unavailable",
    QueueFullError: "overloaded",
}
_PROBLEMS = (
    "message-not-found",
    "mail-unprocessable",
    "mail-store-unavailable",
    "processors-unavailable",
    "overloaded",
    "concurrency-limit",
    "upstream-timeout",
    "store-full",
    "store-unavailable",
)


@attrs.frozen(kw_only=True)
class ProcessBulk:
    """The body of ``POST /emails/process/bulk``."""

    message_ids: tuple[str, ...] = attrs.field(validator=[length(1, MOST), each(check_message_id)])
    organization_id: str = attrs.field(validator=check_organization_id)
    priority: Priority = Priority.NORMAL
    metadata: dict[str, Any] = attrs.field(factory=dict)


_ONE: Deed[Email] = Deed(
    status=lambda _: 200, keep=lambda email: dumps({"result": email.result}), show=lambda kept: kept
)
_BULK: Deed[Sequence[Ended]] = Deed(
    status=lambda _: 200,
    keep=lambda ends: dumps({"results": [_item(one) for one in ends]}),
    show=lambda kept: kept,
    limit=None,
)


@routes.add(
    "POST",
    "/emails/process",
    scope=Scope.PUBLISH,
    body=ProcessEmail,
    idempotent=True,
    answers={200: Answered("What was made of it.", obj(result=ANY_OBJECT))},
    problems=_PROBLEMS,
)
async def process_mail() -> Response:
    """Process one mail of the store: read it, understand it, act upon it."""
    command = await read_body(ProcessEmail)
    _agree(command.organization_id)
    request_context().long_lived()
    asked = _asked(command.message_id, command.organization_id, command.priority)
    key = await idempotency_key()
    try:
        with trio.fail_at(_deadline()):
            once = await services().keys.once(key, _ONE, lambda also: worker().mails.process(asked, also))
    except tuple(_SLUGS) as error:
        return problem_reply(_problem(error))
    except trio.TooSlowError:
        return problem_reply(Problem.of("upstream-timeout", "The mail was not processed in X-Timeout-Ms"))
    return to_quart(reply_once(once))


@routes.add(
    "POST",
    "/emails/process/bulk",
    scope=Scope.PUBLISH,
    body=ProcessBulk,
    idempotent=True,
    answers={
        200: Answered(
            "What was made of each, in the order asked.",
            obj(
                results=listed(
                    maybe(
                        obj(messageId=STRING, success=BOOLEAN, result=ANY_OBJECT, error=STRING, late=BOOLEAN),
                        "result",
                        "error",
                        "late",
                    )
                )
            ),
        )
    },
    problems=("concurrency-limit", "store-full", "store-unavailable"),
)
async def process_mails() -> Response:
    """Process 1 to 1000 mails of the store; what befalls one is told of it alone."""
    command = await read_body(ProcessBulk)
    _agree(command.organization_id)
    request_context().long_lived()
    key = await idempotency_key()

    asked = [
        _asked(message_id, command.organization_id, command.priority) for message_id in command.message_ids
    ]
    deadline = _deadline()
    once = await services().keys.once(
        key, _BULK, lambda also: worker().mails.process_all(asked, deadline, also)
    )
    return to_quart(reply_once(once))


def _item(ended: Ended) -> dict[str, Any]:
    if ended.error is not None:
        late = {"late": True} if isinstance(ended.error, MailLateError) else {}
        return {"messageId": ended.message_id, "success": False, "error": str(ended.error), **late}
    assert ended.email is not None, "what went well is recorded"
    return {"messageId": ended.message_id, "success": True, "result": ended.email.result}


def _asked(message_id: str, organization_id: str, priority: Priority) -> Asked:
    return Asked(
        message_id=message_id,
        organization_id=organization_id,
        priority=priority,
        trace=trace_of(request_context()),
    )


def _agree(organization_id: str) -> None:
    """Refuse a request whose header speaks of another organization than its body."""
    said = request.headers.get("X-Organization-ID")
    if said is not None and said != organization_id:
        raise InvalidInputError.at(
            "X-Organization-ID", f"says {shortened(said)!r}, and the body {shortened(organization_id)!r}"
        )


def _deadline() -> float:
    """Return when the caller gives up, on Trio's clock."""
    text = request.headers.get("X-Timeout-Ms", "")
    if not text:
        return float("inf")
    if not (text.isascii() and text.isdecimal() and 0 < len(text) <= 10 and int(text) > 0):
        raise InvalidInputError.at("X-Timeout-Ms", f"expected milliseconds from 1, got {shortened(text)!r}")
    return trio.current_time() + int(text) / 1000


def _problem(error: EconeuraError) -> Problem:
    slug = next(_SLUGS[kind] for kind in type(error).__mro__ if kind in _SLUGS)
    found = Problem.of(slug, str(error))
    return attrs.evolve(found, headers=_RETRY_LATER) if found.status == 503 else found
