"""The worker's daily reports and weekly exports: whole days of a time zone, written whole, the same when repeated."""

import gzip
import hashlib
import json
from zoneinfo import ZoneInfo

import pytest
import trio

from econeura_daemon.core.errors import StoreUnavailableError
from econeura_daemon.cron import TaskFailedError
from econeura_daemon.worker.tasks.exports import WeeklyExport
from econeura_daemon.worker.tasks.periods import Period
from econeura_daemon.worker.tasks.reports import DailyReports
from tests.support.worker_tasks_rig import open_worker_rig, run_at

MADRID = ZoneInfo("Europe/Madrid")


@pytest.fixture
async def rig(tmp_path):
    async with open_worker_rig(tmp_path) as opened:
        yield opened


def reports(rig, tmp_path, zone=MADRID, kept=10):
    return DailyReports(
        store=rig.store,
        events=rig.log,
        state_dir=tmp_path,
        zone=zone,
        worker_id="w-1",
        kept=kept,
        clock=rig.clock,
    )


def exports(rig, tmp_path, kept=10):
    return WeeklyExport(store=rig.store, state_dir=tmp_path, zone=MADRID, worker_id="w-1", kept=kept)


def result(category, *, took, sentiment="neutral", urgency="low", language="es"):
    metadata = {"category": category, "sentiment": sentiment, "urgency": urgency, "language": language}
    return {"processed": True, "action": "categorize", "metadata": metadata, "processingTime": took}


async def test_a_report_counts_the_local_day_before_also_where_it_has_25_hours(rig, tmp_path):
    await rig.record("2026-10-24T21:59:59.999+00:00", result=result("spam", took=99))
    await rig.record("2026-10-24T22:00:00+00:00", result=result("invoice", took=10, urgency="high"))
    for took in range(20, 30):
        await rig.record("2026-10-25T12:00:00+00:00", result=result("support", took=took, language="en"))
    await rig.record("2026-10-25T22:59:59.999+00:00", error="too large")
    await rig.record("2026-10-25T23:00:00+00:00", result=result("spam", took=99))
    said = await reports(rig, tmp_path)(run_at("2026-10-26T05:00:00+00:00"))
    file = tmp_path / "reports" / "daily-2026-10-25.json"
    assert said == f"reported on 12 mails of 2026-10-25 in {file}; removed 0 older"
    report = json.loads(file.read_bytes())
    assert report == {
        "day": "2026-10-25",
        "from": "2026-10-24T22:00:00.000Z",
        "to": "2026-10-25T23:00:00.000Z",
        "timeZone": "Europe/Madrid",
        "workerId": "w-1",
        "emails": {
            "total": 12,
            "byStatus": {"succeeded": 11, "failed": 1},
            "byAction": {"categorize": 11},
            "byCategory": {"support": 10, "invoice": 1},
            "bySentiment": {"neutral": 11},
            "byUrgency": {"low": 10, "high": 1},
            "byLanguage": {"en": 10, "es": 1},
            "processingTime": {"p50": 24, "p95": 29},
            "errors": [{"error": "too large", "count": 1}],
        },
    }
    assert file.stat().st_mode & 0o777 == 0o600


async def test_a_run_that_is_repeated_writes_the_same_and_tells_of_it_once(rig, tmp_path):
    await rig.record("2026-11-23T12:00:00+00:00", result=result("support", took=5))
    run, task = run_at("2026-11-24T05:00:00+00:00", "daily_reports", "run_07"), reports(rig, tmp_path)
    rig.store.trouble = StoreUnavailableError("as if killed")
    with pytest.raises(StoreUnavailableError):
        await task(run)
    rig.store.trouble = None
    await task(run)
    before = (tmp_path / "reports" / "daily-2026-11-23.json").read_bytes()
    await task(run)
    assert (tmp_path / "reports" / "daily-2026-11-23.json").read_bytes() == before
    ((event_type, data),) = await rig.events()
    assert event_type == "workers.report_written"
    assert data == {"jobId": "daily_reports", "runId": "run_07", **json.loads(before)}


async def test_a_day_without_mails_has_a_report_and_only_the_newest_are_kept(rig, tmp_path):
    task = reports(rig, tmp_path, kept=2)
    for day in (10, 11, 12):
        said = await task(run_at(f"2026-11-{day}T05:00:00+00:00", run_id=f"run_{day}"))
    assert said.endswith("; removed 1 older")
    assert [file.name for file in sorted((tmp_path / "reports").iterdir())] == [
        "daily-2026-11-10.json",
        "daily-2026-11-11.json",
    ]
    assert (await rig.events())[-1][1]["emails"]["processingTime"] == {"p50": None, "p95": None}


@pytest.mark.parametrize(
    ("zone", "instant", "start", "end"),
    [
        ("Europe/Madrid", "2026-03-30T04:00:00+00:00", "2026-03-28T23:00", "2026-03-29T22:00"),
        ("America/Santiago", "2026-09-07T09:00:00+00:00", "2026-09-06T04:00", "2026-09-07T03:00"),
        ("Pacific/Auckland", "2026-11-23T17:00:00+00:00", "2026-11-22T11:00", "2026-11-23T11:00"),
        ("UTC", "2027-01-01T06:00:00+00:00", "2026-12-31T00:00", "2027-01-01T00:00"),
    ],
)
def test_a_day_lasts_from_its_first_instant_to_that_of_the_next(zone, instant, start, end):
    day = Period.before(run_at(instant).scheduled_for, ZoneInfo(zone), days=1)
    assert (f"{day.start:%Y-%m-%dT%H:%M}", f"{day.end:%Y-%m-%dT%H:%M}") == (start, end)


async def test_an_export_holds_the_week_and_its_manifest_tells_what_it_holds(rig, tmp_path):
    await rig.record("2026-11-14T22:59:59+00:00", result=result("spam", took=1), message_id="before")
    await rig.record("2026-11-14T23:00:00+00:00", result=result("invoice", took=1), message_id="first")
    await rig.record("2026-11-18T12:00:00+00:00", error="too large", message_id="failed")
    for number in range(1100):
        await rig.record("2026-11-19T12:00:00+00:00", result=result("a", took=1), message_id=f"{number}")
    await rig.record("2026-11-21T22:59:59+00:00", result=result("support", took=1), message_id="last")
    await rig.record("2026-11-21T23:00:00+00:00", result=result("spam", took=1), message_id="after")
    run, task = run_at("2026-11-22T01:00:00+00:00"), exports(rig, tmp_path)
    await task(run)
    file = tmp_path / "exports" / "emails-2026-11-15_2026-11-21.jsonl.gz"
    lines = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    ids = [line["messageId"] for line in lines]
    assert (ids[:2], ids[-1], len(ids), len(set(ids))) == (["first", "failed"], "last", 1103, 1103)
    assert (lines[1]["status"], lines[1]["error"], lines[1]["organizationId"]) == (
        "failed",
        "too large",
        "acme",
    )
    manifest = json.loads(file.with_name(f"{file.name}.manifest.json").read_bytes())
    assert manifest == {
        "file": file.name,
        "from": "2026-11-14T23:00:00.000Z",
        "to": "2026-11-21T23:00:00.000Z",
        "timeZone": "Europe/Madrid",
        "workerId": "w-1",
        "count": 1103,
        "succeeded": 1102,
        "failed": 1,
        "bytes": file.stat().st_size,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    before = file.read_bytes()
    assert before[4:8] == bytes(4), "the time of writing would make each time another file of it"
    await task(run)
    assert file.read_bytes() == before


async def test_an_export_that_is_cut_off_leaves_nothing_under_its_name_and_is_made_by_the_next_run(
    rig, tmp_path
):
    run, task = run_at("2026-11-22T01:00:00+00:00"), exports(rig, tmp_path, kept=1)
    folder = tmp_path / "exports"
    seen = []

    async def hang(_work):
        seen.extend(file.name for file in folder.iterdir())
        cut.cancel()
        await trio.sleep_forever()

    with trio.CancelScope() as cut:
        rig.store.read = hang
        await task(run)
    assert seen == ["emails-2026-11-15_2026-11-21.jsonl.gz.partial"]
    assert list(folder.iterdir()) == []
    (folder / seen[0]).write_bytes(b"of one that was killed")
    del rig.store.read
    await task(run)
    assert [file.name for file in sorted(folder.iterdir())] == [
        "emails-2026-11-15_2026-11-21.jsonl.gz",
        "emails-2026-11-15_2026-11-21.jsonl.gz.manifest.json",
    ]
    await task(run_at("2026-11-29T01:00:00+00:00"))
    assert [file.name for file in sorted(folder.iterdir())] == [
        "emails-2026-11-22_2026-11-28.jsonl.gz",
        "emails-2026-11-22_2026-11-28.jsonl.gz.manifest.json",
    ]


async def test_a_folder_that_cannot_be_written_fails_the_run_in_words(rig, tmp_path):
    (tmp_path / "reports").write_text("a file")
    (tmp_path / "exports").write_text("a file")
    for task in (reports(rig, tmp_path), exports(rig, tmp_path)):
        with pytest.raises(TaskFailedError, match="cannot be written"):
            await task(run_at("2026-11-22T01:00:00+00:00"))
