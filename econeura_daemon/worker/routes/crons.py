"""The worker's own cron jobs, as daemons manage them."""

from quart import Response

from econeura_daemon.api.replies import reply
from econeura_daemon.api.routing import Answered, Routes
from econeura_daemon.api.schemas import listed, obj, ref
from econeura_daemon.api.services import services
from econeura_daemon.cron import job_json
from econeura_daemon.server import Scope

routes = Routes("Cron of the workers service")

_JOB = obj(job=ref("Job"))
_WRITE_PROBLEMS = ("store-full", "store-unavailable", "outcome-unknown")
_MOST = 100
"""Jobs in the answer; there are six."""


@routes.add(
    "GET", "/cron/jobs", scope=Scope.READ, answers={200: Answered("All jobs.", obj(jobs=listed(ref("Job"))))}
)
async def list_worker_jobs() -> Response:
    """List the jobs in the order of their ids."""
    return reply({"jobs": [job_json(job) for job in await services().jobs.page(None, _MOST)]})


@routes.add("GET", "/cron/jobs/{id}", scope=Scope.READ, answers={200: Answered("The job.", _JOB)})
async def get_worker_job(key: str) -> Response:
    """Read one job."""
    return reply({"job": job_json(await services().jobs.get(key))})


@routes.add(
    "POST",
    "/cron/jobs/{id}/enable",
    scope=Scope.ADMIN,
    answers={200: Answered("The job, due from now on.", _JOB)},
    problems=_WRITE_PROBLEMS,
)
async def enable_worker_job(key: str) -> Response:
    """Let a job be due again; what it was not run for meanwhile stays so. To do it twice changes nothing."""
    return reply({"job": job_json(await services().jobs.enable(key))})


@routes.add(
    "POST",
    "/cron/jobs/{id}/disable",
    scope=Scope.ADMIN,
    answers={200: Answered("The job, not due any more.", _JOB)},
    problems=_WRITE_PROBLEMS,
)
async def disable_worker_job(key: str) -> Response:
    """Let a job not be due any more, also after a restart; a run that is under way goes on."""
    return reply({"job": job_json(await services().jobs.disable(key))})


@routes.add("GET", "/cron/stats", scope=Scope.READ, answers={200: Answered("Counts.", ref("CronStats"))})
async def read_worker_cron_stats() -> Response:
    """Count jobs and what became of their ticks."""
    return reply(await services().jobs.stats())
