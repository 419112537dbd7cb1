"""The processes that read mails: killed, stopped, given up on, outlived by nobody; the loop goes on meanwhile."""

import os
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio

from econeura_daemon.core.errors import InvalidInputError
from econeura_daemon.primitives.errors import QueueFullError
from econeura_daemon.worker.processing import (
    DEFAULT_RULES,
    ProcessorsUnavailableError,
    Rules,
    UnprocessableError,
    open_processors,
    process,
)

INVOICE = b"From: a@example.com\nSubject: Factura\n\nAdjunto la factura de 500 EUR.\n"
MEETING = b"From: a@example.com\nSubject: Meeting\n\nShall we have the meeting on Tuesday?\n"
ONE_MORE = b"From: a@example.com\nSubject: Pedido\n\nQuisiera hacer un pedido.\n"


async def until(holds):
    with trio.fail_after(60):
        while not holds():  # noqa: ASYNC110 - of another process nobody tells us
            await trio.sleep(0.01)


@asynccontextmanager
async def stopped(processors):
    """Hold the only process where it is, as a mail would that takes for ever."""
    (pid,) = processors.statistics().pids
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_results_are_those_of_the_same_process_and_each_caller_has_its_own():
    rules = Rules.load()
    mails = [INVOICE, MEETING, ONE_MORE] * 20
    got = {}

    async def ask(number, raw):
        got[number] = (await processors.process(raw)).as_result()["metadata"]

    with trio.fail_after(60):
        async with open_processors(processes=2) as processors:
            async with trio.open_nursery() as nursery:
                for number, raw in enumerate(mails):
                    nursery.start_soon(ask, number, raw)
            pids = processors.statistics().pids
            assert processors.statistics().processed == len(mails)
            with pytest.raises(UnprocessableError, match="it is empty"):
                await processors.process(b"")
    assert [got[number] for number in range(len(mails))] == [
        process(raw, rules).as_result()["metadata"] for raw in mails
    ]
    assert not any(map(is_running, pids))
    with pytest.raises(ProcessorsUnavailableError):
        await processors.process(INVOICE)


async def test_a_process_that_hangs_or_dies_costs_one_mail_and_is_replaced():
    with trio.fail_after(100):
        async with open_processors(time_limit=20, queue_limit=2) as processors:
            # Killed while it reads: this mail is refused, the next one has its result.
            async with stopped(processors) as pid, trio.open_nursery() as nursery:

                async def refused(why):
                    with pytest.raises(UnprocessableError, match=why):
                        await processors.process(INVOICE)

                nursery.start_soon(refused, "signal 9")
                await until(lambda: processors.statistics().busy)
                os.kill(pid, signal.SIGKILL)
            assert (await processors.process(MEETING)).category == "meeting"
            # Killed while nobody looked: nobody notices.
            (pid,) = processors.statistics().pids
            os.kill(pid, signal.SIGKILL)
            await until(lambda: not is_running(pid))
            assert (await processors.process(MEETING)).category == "meeting"
            assert processors.statistics().deaths == 2
            assert processors.statistics().unprocessable == 1


async def test_a_mail_that_takes_too_long_is_refused():
    with trio.fail_after(60):
        async with open_processors(time_limit=3.0) as processors:
            async with stopped(processors):
                with pytest.raises(UnprocessableError, match="within 3 s"):
                    await processors.process(INVOICE)
            assert (await processors.process(MEETING)).category == "meeting"
            assert processors.statistics().timeouts == 1


async def test_a_caller_who_leaves_disturbs_nobody_and_the_queue_is_bounded():
    with trio.fail_after(60):
        async with open_processors(queue_limit=2) as processors:
            async with stopped(processors), trio.open_nursery() as leaving:
                leaving.start_soon(processors.process, INVOICE)
                await until(lambda: processors.statistics().busy)
                leaving.start_soon(processors.process, INVOICE)
                leaving.start_soon(processors.process, INVOICE)
                await until(lambda: processors.statistics().waiting == 2)
                with pytest.raises(QueueFullError, match="2 mails wait already"):
                    await processors.process(INVOICE)
                leaving.cancel_scope.cancel()
            assert processors.statistics().waiting == 0
            assert (await processors.process(MEETING)).category == "meeting"
            assert processors.statistics().deaths == 0


async def test_who_still_waits_when_the_block_ends_is_told():
    told = trio.Event()

    async def wait(processors):
        with pytest.raises(ProcessorsUnavailableError):
            await processors.process(INVOICE)
        told.set()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery, open_processors() as processors:
            (pid,) = processors.statistics().pids
            os.kill(pid, signal.SIGSTOP)
            nursery.start_soon(wait, processors)
            nursery.start_soon(wait, processors)
            await until(lambda: processors.statistics().waiting)
    assert told.is_set()
    assert not is_running(pid)


@pytest.mark.alone
async def test_the_loop_goes_on_while_large_mails_are_read():
    body = b"<p>Adjunto la factura de 500 EUR.</p>\n" * 100_000
    large = b"From: a@example.com\nSubject: Factura\nContent-Type: text/html\n\n" + body
    large += b"x" * (20 * 1024 * 1024 - len(large))
    lags = []

    async def look():
        while True:
            before = trio.current_time()
            await trio.sleep(0.005)
            lags.append(trio.current_time() - before - 0.005)

    with trio.fail_after(60):
        async with open_processors() as processors, trio.open_nursery() as nursery:
            nursery.start_soon(look)
            for _ in range(3):
                assert (await processors.process(large)).category == "invoice"
            nursery.cancel_scope.cancel()
    lags.sort()
    assert lags[len(lags) * 95 // 100] < 0.1


async def test_changed_rules_are_taken_over_and_broken_ones_are_not(tmp_path, caplog):
    path = tmp_path / "rules.toml"
    text = '[categories.NAME]\naction = "archive"\n[[categories.NAME.rules]]\nweight = 9\nany = ["factura"]\n'
    path.write_text(text.replace("NAME", "one"), encoding="utf-8")
    with trio.fail_after(60):
        async with open_processors(path) as processors:
            assert (await processors.process(INVOICE)).category == "one"
            path.write_text(text.replace("NAME", "another"), encoding="utf-8")
            await until(lambda: processors.statistics().rules_loaded == 2)
            assert (await processors.process(INVOICE)).category == "another"
            path.write_text(text.replace("weight", "wieght"), encoding="utf-8")
            await until(lambda: processors.statistics().rules_error)
            with pytest.raises(InvalidInputError, match=r"rules\.toml:4: .*did you mean 'weight'"):
                await processors.reload()
            assert (await processors.process(INVOICE)).category == "another"
    assert "the old rules stay in force" in caplog.text


@pytest.mark.parametrize(
    ("program", "why"), [("/bin/false", "exit code 1"), ("/no/such/python", "No such file")]
)
async def test_processes_that_cannot_start_are_said_so(monkeypatch, program, why):
    monkeypatch.setattr(sys, "executable", program)
    with trio.fail_after(60), pytest.raises(ProcessorsUnavailableError, match=f"can be started: .*{why}"):
        async with open_processors():
            pass


def test_processes_end_when_the_worker_is_killed():
    program = """
import os, sys, trio
from econeura_daemon.worker.processing import open_processors
async def main():
    async with open_processors(processes=2) as processors:
        while len(processors.statistics().pids) < 2: await trio.sleep(0.01)
        print(*processors.statistics().pids, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""
    worker = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with worker:
        pids = list(map(int, worker.stdout.readline().split()))
        assert len(pids) == 2
        assert all(map(is_running, pids))
        for pid in pids:
            os.kill(pid, signal.SIGTERM)  # it comes to the whole group, and is not for them
        worker.kill()
    deadline = time.monotonic() + 30
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_rules_file_of_the_configuration_is_that_of_the_package():
    assert (Path("config") / "email_rules.toml").resolve() == DEFAULT_RULES.resolve()
