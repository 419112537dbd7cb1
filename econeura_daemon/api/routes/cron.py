"""Cron: jobs, their runs, and what became of their ticks."""

from quart import Response

from econeura_daemon.api.bodies import idempotency_key, read_body, read_patch
from econeura_daemon.api.hot import reply_once, to_quart
from econeura_daemon.api.idempotency import Deed
from econeura_daemon.api.parameters import RUN_STATUS
from econeura_daemon.api.queries import CURSOR, LIMIT
from econeura_daemon.api.replies import reply, reply_page
from econeura_daemon.api.routing import Answered, Routes, current_query
from econeura_daemon.api.schemas import BOOLEAN, STRING, obj, page_of, ref
from econeura_daemon.api.services import services
from econeura_daemon.core.jsons import dumps
from econeura_daemon.cron import CreateJob, EditedJob, Job, Run, job_json
from econeura_daemon.server import Scope

routes = Routes("Cron")

_COLLECTION = "/v1/cron/jobs"
_ONE = "/v1/cron/jobs/{id}"
_RUNS = "/v1/cron/jobs/{id}/runs"
_WRITE_PROBLEMS = ("store-full", "store-unavailable", "outcome-unknown")
_CHANGE_PROBLEMS = ("conflict", *_WRITE_PROBLEMS)

_CREATION: Deed[Job] = Deed(
    status=lambda _: 201, keep=lambda job: dumps(job_json(job)), show=lambda kept: kept
)
_RUN: Deed[Run] = Deed(status=lambda _: 202, keep=lambda run: dumps(run.to_json()), show=lambda kept: kept)


@routes.add(
    "POST",
    _COLLECTION,
    scope=Scope.ADMIN,
    body=CreateJob,
    idempotent=True,
    answers={201: Answered("The job, and when it is due next.", ref("Job"))},
    problems=_CHANGE_PROBLEMS,
)
async def create_job() -> Response:
    """Create a job.

    `schedule` has five fields, six with seconds first, or is `@hourly` or its like, or `@every 30s`.
    """
    command = await read_body(CreateJob)
    key = await idempotency_key()
    jobs = services().jobs
    return to_quart(
        reply_once(await services().keys.once(key, _CREATION, lambda also: jobs.create(command, also)))
    )


@routes.add(
    "GET",
    _COLLECTION,
    scope=Scope.READ,
    query=(LIMIT, CURSOR),
    answers={200: Answered("A page of jobs.", page_of(ref("Job")))},
)
async def list_jobs() -> Response:
    """List jobs in the order of their ids."""
    query = current_query()
    page = query.page(_COLLECTION)
    after = await services().cursors.read(page, query[CURSOR], str)
    jobs = await services().jobs.page(after, query[LIMIT] + 1)
    return await reply_page(
        page,
        jobs,
        query[LIMIT],
        position=lambda job: job.id,
        show=lambda job: dumps(job_json(job)),
    )


@routes.add("GET", _ONE, scope=Scope.READ, answers={200: Answered("The job.", ref("Job"))})
async def get_job(key: str) -> Response:
    """Read one job."""
    return reply(job_json(await services().jobs.get(key)))


@routes.add(
    "PATCH",
    _ONE,
    scope=Scope.ADMIN,
    patch=EditedJob,
    answers={200: Answered("The job as it is now.", ref("Job"))},
    problems=_CHANGE_PROBLEMS,
)
async def patch_job(key: str) -> Response:
    """Change what is given and leave the rest (RFC 7396: null takes a member back to its default).

    Another schedule counts from now on. A job that the configuration declares is changed there: 409.
    """
    changes = await read_patch()
    return reply(job_json(await services().jobs.patch(key, changes)))


@routes.add(
    "DELETE",
    _ONE,
    scope=Scope.ADMIN,
    answers={200: Answered("It is gone, and its history.", obj(id=STRING, deleted=BOOLEAN))},
    problems=_CHANGE_PROBLEMS,
)
async def delete_job(key: str) -> Response:
    """Delete a job and the history of its runs; one that is under way goes on."""
    await services().jobs.delete(key)
    return reply({"id": key, "deleted": True})


@routes.add(
    "POST",
    "/v1/cron/jobs/{id}/enable",
    scope=Scope.ADMIN,
    answers={200: Answered("The job, due from now on.", ref("Job"))},
    problems=_CHANGE_PROBLEMS,
)
async def enable_job(key: str) -> Response:
    """Let a job be due again; what it was not run for meanwhile stays so."""
    return reply(job_json(await services().jobs.enable(key)))


@routes.add(
    "POST",
    "/v1/cron/jobs/{id}/disable",
    scope=Scope.ADMIN,
    answers={200: Answered("The job, not due any more.", ref("Job"))},
    problems=_CHANGE_PROBLEMS,
)
async def disable_job(key: str) -> Response:
    """Let a job not be due any more; a run that is under way goes on."""
    return reply(job_json(await services().jobs.disable(key)))


@routes.add(
    "POST",
    "/v1/cron/jobs/{id}/run",
    scope=Scope.ADMIN,
    idempotent=True,
    answers={202: Answered("The run, which begins soon.", ref("Run"))},
    problems=_WRITE_PROBLEMS,
)
async def run_job(key: str) -> Response:
    """Run a job once, now, whether it is enabled or not.

    Unless the job may overlap, the run waits for the one that is under way.
    """
    jobs = services().jobs
    once = await services().keys.once(await idempotency_key(), _RUN, lambda also: jobs.run(key, also))
    return to_quart(reply_once(once))


@routes.add(
    "GET",
    _RUNS,
    scope=Scope.READ,
    query=(RUN_STATUS, LIMIT, CURSOR),
    answers={200: Answered("A page of runs.", page_of(ref("Run")))},
)
async def list_runs(key: str) -> Response:
    """List the runs of a job, the latest tick first."""
    query = current_query()
    page = query.page(_RUNS.replace("{id}", key))
    before = await services().cursors.read(page, query[CURSOR], str)
    runs = await services().jobs.runs(key, query[RUN_STATUS], before, query[LIMIT] + 1)
    return await reply_page(
        page,
        runs,
        query[LIMIT],
        position=lambda run: run.id,
        show=lambda run: dumps(run.to_json()),
    )


@routes.add("GET", "/v1/cron/stats", scope=Scope.READ, answers={200: Answered("Counts.", ref("CronStats"))})
async def read_cron_stats() -> Response:
    """Count jobs and what became of their ticks."""
    return reply(await services().jobs.stats())
