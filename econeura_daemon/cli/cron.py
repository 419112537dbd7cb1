"""``cron``: list, show, add, enable, disable, run, runs, delete; ``next`` stands in a module of its own."""

from collections.abc import Mapping
from typing import Any

import click

from econeura_daemon.cli.arguments import Duration, JsonSource
from econeura_daemon.cli.client import Client, client_options, segment
from econeura_daemon.cli.lazy import Lazy, LazyGroup
from econeura_daemon.cli.output import Column, Output, output_option

COLLECTION = "/v1/cron/jobs"
STATUSES = ("queued", "running", "succeeded", "failed", "timed_out", "skipped", "missed", "unknown")
TASKS = ("cleanup", "backup", "analytics_rollup")


def action_of(row: Mapping[str, Any]) -> str:
    """Return in a line what a job does."""
    action = row["action"]
    match action["kind"]:
        case "request":
            return f"{action['method']} {action['service']}{action['path']}"
        case "event":
            return f"event {action['type']}"
        case _:
            return f"task {action['task']}"


_JOBS: list[Column] = [
    ("id", lambda row: row["id"]),
    ("schedule", lambda row: row["schedule"]),
    ("zone", lambda row: row["timeZone"]),
    ("action", action_of),
    ("state", lambda row: "enabled" if row["enabled"] else row["disabledReason"] or "disabled"),
    ("next run", lambda row: row["nextRun"]),
    ("last", lambda row: row["lastStatus"]),
    ("runs", lambda row: row["runCount"]),
    ("errors", lambda row: row["errorCount"]),
]

_RUNS: list[Column] = [
    ("id", lambda row: row["id"]),
    ("scheduled for", lambda row: row["scheduledFor"]),
    ("trigger", lambda row: row["trigger"]),
    ("status", lambda row: row["status"]),
    ("attempt", lambda row: row["attempt"]),
    ("started", lambda row: row["startedAt"]),
    ("finished", lambda row: row["finishedAt"]),
    ("error", lambda row: row["error"]),
]


_LAZY = {"next": Lazy("econeura_daemon.cli.cron_next", "next_runs", "Show when EXPRESSION is due next.")}


@click.group(cls=LazyGroup, lazy=_LAZY)
def cron() -> None:
    """Jobs, their schedules and their runs."""


@cron.command("list")
@click.option("--limit", type=click.IntRange(1), default=250, show_default=True)
@client_options
@output_option
def list_(*, client: Client, output: Output, limit: int) -> None:
    """List jobs, by id."""
    output.rows(client.page(COLLECTION, {}, limit), _JOBS, empty="No jobs.")


@cron.command
@click.argument("job", metavar="ID")
@client_options
@output_option
def show(*, client: Client, output: Output, job: str) -> None:
    """Show one job, its counts, and when it is due next."""
    found = client.get(f"{COLLECTION}/{segment(job)}")
    if output.for_people:
        output.record(found)
    else:
        output.item(found)


@cron.command
@click.argument("name")
@click.argument("schedule")
@click.option("--request", metavar="'METHOD SERVICE PATH'", help="Call a service through the mesh.")
@click.option("--event", metavar="TYPE", help="Publish an event.")
@click.option("--task", type=click.Choice(TASKS), help="Do one of the daemon's own tasks.")
@click.option("--data", type=JsonSource(), help="The request's body, or the event's data.")
@click.option("--id", "id_", help="An id of its own. Made if not given.")
@click.option("--zone", help="The time zone of the schedule; UTC if not given.")
@click.option("--overlap", type=click.Choice(("skip", "queue", "allow")), help="While a run is under way.")
@click.option("--misfire", type=click.Choice(("latest", "all", "skip")), help="For ticks that nobody ran.")
@click.option("--misfire-window", type=Duration(), help="How late a tick may be run.")
@click.option("--jitter", type=Duration(), help="Run it later by up to so much, always by the same.")
@click.option("--timeout", type=Duration(), help="Of one attempt.")
@click.option("--retries", type=click.IntRange(0), help="Attempts beyond the first.")
@click.option("--pause-after", type=click.IntRange(1), help="Disable it after so many failed runs in a row.")
@click.option("--disabled", is_flag=True, help="It is not due until it is enabled.")
@client_options
@output_option
def add(
    *,
    client: Client,
    output: Output,
    request: str | None,
    event: str | None,
    task: str | None,
    data: Any,
    disabled: bool,
    **said: Any,
) -> None:
    """Add a job: NAME, and when it is due (SCHEDULE: '30 3 * * 1-5', '@daily', '@every 30s')."""
    body = {
        "name": said["name"],
        "schedule": said["schedule"],
        "action": _action(request, event, task, data),
        "id": said["id_"],
        "timeZone": said["zone"],
        "overlap": said["overlap"],
        "misfire": said["misfire"],
        "misfireWindowMs": said["misfire_window"],
        "jitterMs": said["jitter"],
        "timeoutMs": said["timeout"],
        "retries": said["retries"],
        "pauseAfterFailures": said["pause_after"],
        "enabled": False if disabled else None,
    }
    given = {key: value for key, value in body.items() if value is not None}
    output.row(client.call("POST", COLLECTION, body=given), _JOBS)


@cron.command
@click.argument("job", metavar="ID")
@client_options
@output_option
def enable(*, client: Client, output: Output, job: str) -> None:
    """Let a job be due again, from now on."""
    output.row(client.call("POST", f"{COLLECTION}/{segment(job)}/enable"), _JOBS)


@cron.command
@click.argument("job", metavar="ID")
@client_options
@output_option
def disable(*, client: Client, output: Output, job: str) -> None:
    """Let a job not be due any more; a run that is under way goes on."""
    output.row(client.call("POST", f"{COLLECTION}/{segment(job)}/disable"), _JOBS)


@cron.command
@click.argument("job", metavar="ID")
@client_options
@output_option
def run(*, client: Client, output: Output, job: str) -> None:
    """Run a job once, now, whether it is enabled or not; `cron runs` tells how it ends."""
    output.row(client.call("POST", f"{COLLECTION}/{segment(job)}/run"), _RUNS)


@cron.command
@click.argument("job", metavar="ID")
@click.option("--status", type=click.Choice(STATUSES), help="Only in this status.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@client_options
@output_option
def runs(*, client: Client, output: Output, job: str, status: str | None, limit: int) -> None:
    """List the runs of a job, the latest tick first."""
    found = client.page(f"{COLLECTION}/{segment(job)}/runs", {"status": status}, limit)
    output.rows(found, _RUNS, empty="No runs.")


@cron.command
@click.argument("job", metavar="ID")
@client_options
@output_option
def delete(*, client: Client, output: Output, job: str) -> None:
    """Delete a job and the history of its runs."""
    gone = client.call("DELETE", f"{COLLECTION}/{segment(job)}")
    if output.for_people:
        click.echo(f"Deleted {job}.")
    else:
        output.item(gone)


def _action(request: str | None, event: str | None, task: str | None, data: Any) -> dict[str, Any]:
    if sum(given is not None for given in (request, event, task)) != 1:
        raise click.UsageError("say what it does with one of --request, --event and --task")
    if task is not None:
        if data is not None:
            raise click.UsageError("a task takes no --data")
        return {"kind": "maintenance", "task": task}
    if event is not None:
        return {"kind": "event", "type": event, **({} if data is None else {"data": data})}
    words = (request or "").split()
    if len(words) != 3:
        raise click.BadParameter(
            f"expected a method, a service and a path, such as 'POST workers /tick', got {request!r}",
            param_hint="--request",
        )
    action = {"kind": "request", **dict(zip(("method", "service", "path"), words, strict=True))}
    return action if data is None else {**action, "body": data}
