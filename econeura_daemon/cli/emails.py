"""``emails``: process, list, job, jobs, cancel."""

import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import click

from econeura_daemon.cli.client import PAGE, Client, client_options, segment
from econeura_daemon.cli.exits import CommandError, Exit
from econeura_daemon.cli.follow import Connection
from econeura_daemon.cli.lazy import LazyGroup
from econeura_daemon.cli.output import Column, Output, output_option

PROCESS = "/v1/workers/emails/process"
BULK = "/v1/workers/emails/process/bulk"
EMAILS = "/v1/workers/emails"
JOBS = "/v1/workers/jobs"
PRIORITIES = ("low", "normal", "high", "urgent")
MOST = 10_000
PATIENCE = 60.0
"""Seconds for which one e-mail is waited for: longer than workers are by default."""
LOOK_EVERY = 0.25
"""Seconds between two looks at a job that is waited for."""
BAR = 40
"""Characters."""


def _told(row: Mapping[str, Any]) -> str | None:
    if row.get("error"):
        return str(row["error"])
    result = row.get("result") or {}
    category = (result.get("metadata") or {}).get("category")
    words = [result.get("action"), category]
    return ", ".join(str(word) for word in words if word) or None


_EMAIL: list[Column] = [
    ("message id", lambda row: row["messageId"]),
    ("worker", lambda row: row["serviceId"]),
    ("ms", lambda row: row["responseTime"]),
    ("result", _told),
]
_LISTED: list[Column] = [
    ("recorded", lambda row: row["recordedAt"]),
    ("message id", lambda row: row["messageId"]),
    ("organization", lambda row: row["organizationId"]),
    ("status", lambda row: row["status"]),
    ("worker", lambda row: row["serviceId"]),
    ("ms", lambda row: row["responseTime"]),
    ("result", _told),
]
_JOB: list[Column] = [
    ("id", lambda row: row["id"]),
    ("status", lambda row: row["status"]),
    ("done", lambda row: f"{row['done']}/{row['total']}"),
    ("failed", lambda row: row["failed"]),
    ("organization", lambda row: row["organizationId"]),
    ("created", lambda row: row["createdAt"]),
    ("finished", lambda row: row["finishedAt"]),
]


@click.group(cls=LazyGroup)
def emails() -> None:
    """E-mails through workers services."""


@emails.command
@click.argument("message_id", required=False)
@click.option("--bulk", type=click.File("rb"), help="A file with an id a line; - for standard input.")
@click.option("--organization", required=True, metavar="ID", help="On whose behalf.")
@click.option("--priority", type=click.Choice(PRIORITIES), default="normal", show_default=True)
@click.option("--key", metavar="KEY", help="An idempotency key: the same command again does it once.")
@click.option("--no-wait", is_flag=True, help="Of a bulk: begin it, and tell its job's id.")
@client_options
@output_option
def process(
    *,
    client: Client,
    output: Output,
    message_id: str | None,
    bulk: BinaryIO | None,
    organization: str,
    priority: str,
    key: str | None,
    no_wait: bool,
) -> int:
    """Have an e-mail processed, or with --bulk up to 10,000 as a job, whose progress is shown.

    Ctrl-C leaves the job to itself. Exits with 1 if one of them failed.
    """
    if (message_id is None) is (bulk is None):
        raise click.UsageError("Give either a MESSAGE_ID or --bulk FILE.")
    body: dict[str, Any] = {"organizationId": organization, "priority": priority}
    headers = {} if key is None else {"Idempotency-Key": key}
    if message_id is not None:
        answer = client.fetch(
            "POST", PROCESS, body={**body, "messageId": message_id}, headers=headers, timeout=PATIENCE
        )
        output.row(answer.data, _EMAIL)
        return Exit.DONE
    assert bulk is not None, "one of both is given"
    body["messageIds"] = _ids(bulk)
    begun = client.fetch("POST", BULK, body=body, headers={**headers, "Prefer": "respond-async"})
    job_id = begun.data["jobId"]
    if no_wait:
        _show(output, client.get(_path(job_id), {"limit": 1}))
        return Exit.DONE
    click.echo(f"Begun as {job_id}; it goes on without you.", err=True)
    job = _follow(client, job_id)
    _show(output, job)
    if output.for_people and job["failed"]:
        click.echo()
        items, _ = _results(client, job_id, job["total"])
        output.rows([one for one in items if not one["success"]], _EMAIL, empty="")
    return Exit.DONE if job["status"] == "succeeded" else Exit.FAILED


@emails.command("list")
@click.option("--status", type=click.Choice(("succeeded", "failed")), help="Only those that ended so.")
@click.option("--organization", metavar="ID", help="Only of this organization.")
@click.option("--message-id", metavar="ID", help="Only of this e-mail.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@client_options
@output_option
def list_(
    *,
    client: Client,
    output: Output,
    status: str | None,
    organization: str | None,
    message_id: str | None,
    limit: int,
) -> None:
    """List what became of e-mails, the latest first."""
    query = {"status": status, "organizationId": organization, "messageId": message_id}
    output.rows(client.page(EMAILS, query, limit), _LISTED, empty="No e-mails.")


@emails.command
@click.argument("job_id", metavar="ID")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Of its results.")
@client_options
@output_option
def job(*, client: Client, output: Output, job_id: str, limit: int) -> None:
    """Show a bulk job, and what became of its e-mails so far."""
    found = client.get(_path(job_id), {"limit": 1})
    items, cursor = _results(client, job_id, limit)
    if not output.for_people:
        output.item({**found, "results": {"items": items, "nextCursor": cursor}})
        return
    output.rows([found], _JOB, empty="")
    if items:
        click.echo()
        output.rows(items, _EMAIL, empty="")


@emails.command
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
@client_options
@output_option
def jobs(*, client: Client, output: Output, limit: int) -> None:
    """List bulk jobs, the latest first."""
    output.rows(client.page(JOBS, {}, limit), _JOB, empty="No bulk jobs.")


@emails.command
@click.argument("job_id", metavar="ID")
@client_options
@output_option
def cancel(*, client: Client, output: Output, job_id: str) -> None:
    """Let nothing more of a bulk job begin; what is done stays done."""
    output.row(client.call("DELETE", _path(job_id)), _JOB)


def _path(job_id: str) -> str:
    return f"{JOBS}/{segment(job_id)}"


def _ids(file: BinaryIO) -> list[str]:
    """Return the ids of a file, a line each; lines that are empty or begin with # are passed over."""
    try:
        lines = map(str.strip, file.read().decode("utf-8-sig").split("\n"))
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file.name} is not UTF-8: {error.reason} at byte {error.start}.") from None
    ids = [line for line in lines if line and not line.startswith("#")]
    if not 1 <= len(ids) <= MOST:
        raise click.UsageError(f"{file.name} holds {len(ids)} ids; expected 1 to {MOST}.")
    return ids


def _results(client: Client, job_id: str, limit: int) -> tuple[list[dict[str, Any]], str | None]:
    """Return up to ``limit`` results of a job in the order asked, and the cursor behind them, if there are more."""
    items: list[dict[str, Any]] = []
    cursor = None
    while True:
        query = {"limit": min(limit - len(items), PAGE), "cursor": cursor}
        page = client.get(_path(job_id), query)["results"]
        items += page["items"]
        cursor = page["nextCursor"]
        if cursor is None or len(items) >= limit:
            return items, cursor


def _show(output: Output, found: dict[str, Any]) -> None:
    output.row({name: value for name, value in found.items() if name != "results"}, _JOB)


def _follow(client: Client, job_id: str) -> dict[str, Any]:
    """Return the job once it is over; show its progress meanwhile. Ctrl-C leaves it to itself."""
    on_terminal = sys.stderr.isatty()
    last = None
    found: dict[str, Any] = {}
    try:
        for found in _looks(client, job_id):
            shown = f"{found['done']}/{found['total']}, {found['failed']} failed"
            if on_terminal:
                filled = BAR * found["done"] // found["total"]
                bar = "#" * filled + "." * (BAR - filled)
                click.echo(f"\r[{bar}] {shown} ", err=True, nl=False)
            elif shown != last:
                click.echo(f"{job_id}: {shown}", err=True)
            last = shown
    except KeyboardInterrupt:
        details = [f"`econeura-daemon emails {verb} {job_id}`" for verb in ("job", "cancel")]
        raise CommandError(
            Exit.INTERRUPTED,
            f"the job {job_id} goes on",
            [f"{details[0]} shows it", f"{details[1]} lets nothing more of it begin"],
        ) from None
    finally:
        if on_terminal:
            click.echo(err=True)
    return found


def _looks(client: Client, job_id: str) -> Iterator[dict[str, Any]]:
    """Yield the job until it is over; a daemon that goes away is waited for: its jobs outlive it."""
    connection = Connection(client)
    connection.answered()
    while True:
        try:
            found = client.get(_path(job_id), {"limit": 1})
        except CommandError as error:
            connection.refused(error)
            continue
        connection.served()
        yield found
        if found["finishedAt"] is not None:
            return
        time.sleep(LOOK_EVERY)
