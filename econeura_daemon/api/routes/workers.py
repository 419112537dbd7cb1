"""The integration with workers services, as existing ECONEURA clients know it."""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
from quart import Response

from econeura_daemon.api.bodies import idempotency_key, read_body
from econeura_daemon.api.context import request_context, trace_of
from econeura_daemon.api.hot import reply_once, to_quart
from econeura_daemon.api.idempotency import Deed, Key
from econeura_daemon.api.parameters import EMAIL_STATUS, MESSAGE_ID, ORGANIZATION_ID
from econeura_daemon.api.problems import RETRY_SOON, problem_of, problem_reply
from econeura_daemon.api.queries import CURSOR, LIMIT
from econeura_daemon.api.replies import reply, reply_page
from econeura_daemon.api.routing import Answered, Routes, current_query
from econeura_daemon.api.schemas import (
    ANY_OBJECT,
    BOOLEAN,
    COUNT,
    MS,
    STRING,
    listed,
    nullable,
    obj,
    page_of,
    ref,
)
from econeura_daemon.api.services import services
from econeura_daemon.core.errors import EconeuraError
from econeura_daemon.core.jsons import dumps
from econeura_daemon.registry import Query
from econeura_daemon.registry.model import Status
from econeura_daemon.server import Scope
from econeura_daemon.telemetry.trace import parse_traceparent
from econeura_daemon.workers import (
    Asked,
    ManageCron,
    Managed,
    Priority,
    Processed,
    ProcessEmail,
)

routes = Routes("Workers")

_EMAILS = "/v1/workers/emails"
_UPSTREAM = (
    "workers-failed",
    "upstream-unreachable",
    "no-healthy-instance",
    "circuit-open",
    "concurrency-limit",
    "workers-busy",
    "upstream-timeout",
)
WRITE_PROBLEMS = (*_UPSTREAM, "store-full", "store-unavailable", "outcome-unknown")

_PROCESSED: Deed[Processed] = Deed(
    status=lambda _: 200, keep=lambda done: dumps(done.to_json()), show=lambda kept: kept
)
_MANAGED: Deed[Managed] = Deed(
    status=lambda _: 200, keep=lambda done: dumps(done.to_json()), show=lambda kept: kept
)


@routes.add(
    "POST",
    "/v1/workers/emails/process",
    scope=Scope.PUBLISH,
    body=ProcessEmail,
    idempotent=True,
    answers={
        200: Answered(
            "What a worker made of it.",
            obj(messageId=STRING, result=ANY_OBJECT, serviceId=STRING, responseTime=MS),
        )
    },
    problems=WRITE_PROBLEMS,
)
async def process_email() -> Response:
    """Have workers process an e-mail.

    The problem of one that failed bears its `messageId`. Of one whose client leaves before the answer it is recorded
    that nobody knows; under the same `Idempotency-Key` it may be asked for again, and workers do it once.
    """
    command = await read_body(ProcessEmail)
    key = await idempotency_key()
    context, emails = request_context(), services().workers.emails
    context.long_lived()  # how many there may be is the workers' to say

    async def act(also: Any) -> Processed:
        return await emails.process(
            command,
            asked_by(command.organization_id),
            key=key_towards_workers(key),
            trace=trace_of(context),
            also=also,
        )

    return await or_problem(
        {"messageId": command.message_id},
        lambda: services().keys.once(key, _PROCESSED, act),
    )


@routes.add(
    "GET",
    _EMAILS,
    scope=Scope.READ,
    query=(EMAIL_STATUS, ORGANIZATION_ID, MESSAGE_ID, LIMIT, CURSOR),
    answers={200: Answered("A page of what became of e-mails.", page_of(ref("Email")))},
    problems=("no-healthy-instance",),
)
async def list_emails() -> Response:
    """List what became of e-mails, the latest first."""
    query = current_query()
    page = query.page(_EMAILS)
    emails = await services().workers.emails.page(
        status=query[EMAIL_STATUS],
        organization_id=query[ORGANIZATION_ID],
        message_id=query[MESSAGE_ID],
        before=await services().cursors.read(page, query[CURSOR], str),
        limit=query[LIMIT] + 1,
    )
    return await reply_page(
        page,
        emails,
        query[LIMIT],
        position=lambda email: email.id,
        show=lambda email: dumps(email.to_json()),
    )


@routes.add(
    "POST",
    "/v1/workers/cron/manage",
    scope=Scope.ADMIN,
    body=ManageCron,
    idempotent=True,
    answers={
        200: Answered(
            "The job, as the worker has it.",
            obj(jobId=STRING, action=STRING, result=ANY_OBJECT, serviceId=STRING, responseTime=MS),
        )
    },
    problems=("not-found", *WRITE_PROBLEMS),
)
async def manage_cron() -> Response:
    """Switch a cron job of the workers' own on or off, or ask how it is."""
    command = await read_body(ManageCron)
    key = await idempotency_key()
    context, crons = request_context(), services().workers.crons
    context.long_lived()

    async def act(also: Any) -> Managed:
        return await crons.manage(
            command,
            asked_by(command.organization_id),
            key=key_towards_workers(key),
            trace=trace_of(context),
            also=also,
        )

    return await or_problem({"jobId": command.job_id}, lambda: services().keys.once(key, _MANAGED, act))


_STATS = obj(
    waiting=obj(urgent=COUNT, high=COUNT, normal=COUNT, low=COUNT),
    underWay=COUNT,
    requests=COUNT,
    failures=COUNT,
    retries=COUNT,
    refusals=COUNT,
)


@routes.add(
    "GET",
    "/v1/workers/health",
    scope=Scope.READ,
    answers={
        200: Answered(
            "Whether a worker can be asked, and how each is.",
            obj(healthy=BOOLEAN, services=listed(ref("Service")), stats=_STATS),
        )
    },
    problems=("no-healthy-instance",),
)
async def read_workers_health() -> Response:
    """Tell how the workers are. It is a 200 as long as the daemon knows."""
    on = services()
    calling = on.workers.calling
    found = on.registry.find(Query(type=calling.service_type))
    return reply(
        {
            "healthy": any(one.status is Status.HEALTHY and not calling.is_refused(one.id) for one in found),
            "services": [on.registry.shown(one) for one in found],
            "stats": _calls(),
        }
    )


@routes.add(
    "GET",
    "/v1/workers/stats",
    scope=Scope.READ,
    answers={
        200: Answered(
            "Counts of everything that has to do with workers.",
            obj(
                initialized=BOOLEAN,
                workersClient=nullable(_STATS),
                webhookStats=ref("WebhookStats"),
                serviceDiscovery=nullable(ref("DiscoveryStats")),
            ),
        )
    },
)
async def read_workers_stats() -> Response:
    """Count calls of workers, webhooks and services."""
    on = services()
    is_on = on.integration is not None
    return reply(
        {
            "initialized": is_on,
            "workersClient": _calls() if is_on else None,
            "webhookStats": await on.deliveries.stats(),
            "serviceDiscovery": on.registry.stats() if is_on else None,
        }
    )


def _calls() -> dict[str, Any]:
    workers = services().workers
    service = services().mesh.show(workers.calling.service_type)
    totals = None if service is None else service.totals
    return {
        "waiting": {priority.value: workers.waiting.count(priority) for priority in Priority},
        "underWay": workers.waiting.under_way,
        "requests": 0 if totals is None else totals.requests,
        "failures": 0 if totals is None else totals.failures,
        "retries": 0 if totals is None else totals.retries,
        "refusals": 0 if totals is None else totals.refusals,
    }


def asked_by(organization_id: str) -> Asked:
    """Return on whose behalf the present request calls workers."""
    context = request_context()
    return Asked(
        organization_id=organization_id,
        request_id=context.request_id,
        trace=parse_traceparent(context.traceparent, context.tracestate),
    )


def key_towards_workers(key: Key | None) -> str | None:
    """Return the key under which workers are asked: the caller's own, told apart from other callers' and routes'.

    And from the same one with another body, which is free to be used after a failure: workers may have done the first.
    """
    if key is None:
        return None
    told_apart = b"\n".join((key.scope.encode(), key.text.encode(), key.body_hash))
    return hashlib.sha256(told_apart).hexdigest()[:40]


async def or_problem(about: dict[str, str], act: Callable[[], Awaitable[Any]]) -> Response:
    """Answer with what ``act`` comes to, or with its problem, which tells what it is ``about``."""
    try:
        return to_quart(reply_once(await act()))
    except EconeuraError as error:
        found = problem_of(error)
        if found is None:
            raise
        again = RETRY_SOON if found.status == 503 else ()
        return problem_reply(attrs.evolve(found, more=about, headers=found.headers or again))
