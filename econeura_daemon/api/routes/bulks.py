"""Bulks of e-mails: answered when they are done, or begun as jobs that go on by themselves (RFC 7240)."""

from typing import Any

from quart import Response, request

from econeura_daemon.api.bodies import idempotency_key, read_body
from econeura_daemon.api.context import request_context, trace_of
from econeura_daemon.api.hot import reply_once, to_quart
from econeura_daemon.api.idempotency import Answer, Deed
from econeura_daemon.api.paging import PageOf
from econeura_daemon.api.problems import problem_of, problem_reply
from econeura_daemon.api.queries import CURSOR, LIMIT, Parameter
from econeura_daemon.api.replies import reply, reply_page
from econeura_daemon.api.routes.workers import WRITE_PROBLEMS, asked_by, key_towards_workers
from econeura_daemon.api.routing import Answered, Routes, current_query
from econeura_daemon.api.schemas import (
    ANY_OBJECT,
    BOOLEAN,
    COUNT,
    MS,
    STRING,
    listed,
    maybe,
    nullable,
    obj,
    page_of,
    ref,
)
from econeura_daemon.api.services import services
from econeura_daemon.client import MeshError
from econeura_daemon.core.jsons import dumps, loads
from econeura_daemon.server import Scope
from econeura_daemon.workers import BulkDone, BulkJob, NoTurnError, ProcessBulk, WorkersFailedError

routes = Routes("Bulks")

_JOBS = "/v1/workers/jobs"
_ONE = "/v1/workers/jobs/{id}"
_ITEM = maybe(
    obj(
        messageId=STRING,
        success=BOOLEAN,
        result=ANY_OBJECT,
        error=STRING,
        serviceId=nullable(STRING),
        responseTime=MS,
    ),
    "result",
    "error",
)
_DONE: Deed[BulkDone] = Deed(
    status=lambda _: 200, keep=lambda done: dumps(done.to_json()), show=lambda kept: kept
)
_BEGUN: Deed[BulkJob] = Deed(
    status=lambda _: 202, keep=lambda job: dumps({"jobId": job.id}), show=lambda kept: kept
)
_PREFER: Parameter[str | None] = Parameter(
    name="Prefer",
    read=str,
    default=None,
    schema=STRING,
    doc="`respond-async`: begin a job and answer at once (RFC 7240).",
)


@routes.add(
    "POST",
    "/v1/workers/emails/process/bulk",
    scope=Scope.PUBLISH,
    body=ProcessBulk,
    idempotent=True,
    headers=(_PREFER,),
    answers={
        200: Answered(
            "What became of each, in the order asked.",
            obj(total=COUNT, successful=COUNT, failed=COUNT, results=listed(_ITEM)),
        ),
        202: Answered("The job is written down, and goes on by itself.", obj(jobId=STRING)),
    },
    problems=WRITE_PROBLEMS,
)
async def process_bulk() -> Response:
    """Have workers process 1 to 10,000 e-mails.

    One that fails fails for itself. Only if workers could be asked for none of them the whole is a problem.
    """
    command = await read_body(ProcessBulk)
    key = await idempotency_key()
    context, workers = request_context(), services().workers
    if _prefers_async():
        once = await services().keys.once(key, _BEGUN, lambda also: workers.jobs.begin(command, also))
        return _answered(once)
    context.long_lived()

    async def act(also: Any) -> BulkDone:
        return await workers.bulks.process(
            command,
            asked_by(command.organization_id),
            key=key_towards_workers(key),
            trace=trace_of(context),
            also=also,
        )

    try:
        return _answered(await services().keys.once(key, _DONE, act))
    except (MeshError, NoTurnError, WorkersFailedError) as error:
        found = problem_of(error)
        assert found is not None, "those are in its table"
        return problem_reply(found)


@routes.add(
    "GET",
    _JOBS,
    scope=Scope.READ,
    query=(LIMIT, CURSOR),
    answers={200: Answered("A page of bulk jobs.", page_of(ref("BulkJob")))},
    problems=("no-healthy-instance",),
)
async def list_bulk_jobs() -> Response:
    """List bulk jobs, the latest first."""
    query = current_query()
    page = query.page(_JOBS)
    before = await services().cursors.read(page, query[CURSOR], str)
    jobs = await services().workers.jobs.page(before, query[LIMIT] + 1)
    return await reply_page(
        page, jobs, query[LIMIT], position=lambda job: job.id, show=lambda job: dumps(job.to_json())
    )


@routes.add(
    "GET",
    _ONE,
    scope=Scope.READ,
    query=(LIMIT, CURSOR),
    answers={200: Answered("The job, with a page of its results.", ref("BulkJobWithResults"))},
    problems=("not-found", "no-healthy-instance"),
)
async def get_bulk_job(key: str) -> Response:
    """Tell how far a bulk job is, and what became of its e-mails so far, in the order asked."""
    query = current_query()
    page: PageOf = query.page(_ONE.replace("{id}", key))
    after = await services().cursors.read(page, query[CURSOR], int)
    jobs = services().workers.jobs
    job = await jobs.get(key)
    placed = await jobs.results(key, after, query[LIMIT] + 1)
    shown = placed[: query[LIMIT]]
    following = None
    if len(placed) > len(shown):
        following = await services().cursors.issue(page, shown[-1].place)
    results = {"items": [one.item.to_json() for one in shown], "nextCursor": following}
    return reply({**job.to_json(), "results": results})


@routes.add(
    "DELETE",
    _ONE,
    scope=Scope.PUBLISH,
    answers={200: Answered("The job; what of it is under way ends first.", ref("BulkJob"))},
    problems=("not-found", *WRITE_PROBLEMS),
)
async def cancel_bulk_job(key: str) -> Response:
    """Let nothing more of a bulk job begin. What is done stays done."""
    return reply((await services().workers.jobs.cancel(key)).to_json())


def _answered(once: Answer) -> Response:
    """Answer with what was done, or was done first under the key: that may have been preferred in another way."""
    response = to_quart(reply_once(once))
    if once.status == 202:
        response.headers["Location"] = f"{_JOBS}/{loads(once.data)['jobId']}"
        response.headers["Preference-Applied"] = "respond-async"
    return response


def _prefers_async() -> bool:
    wishes = ",".join(request.headers.getlist("Prefer")).split(",")
    return any(one.partition(";")[0].partition("=")[0].strip().lower() == "respond-async" for one in wishes)
