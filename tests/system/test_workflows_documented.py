"""docs/workflows.md, done as it says: its terminals run, its commands are typed, its answers come."""

import json
import os
import re
import sys
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

from tests.support.daemon import REPOSITORY
from tests.support.documented import assert_like
from tests.support.ports import free_port
from tests.support.waiting import until

pytestmark = pytest.mark.slow

DOCUMENT = (REPOSITORY / "docs" / "workflows.md").read_text()
VARYING = (
    *("port", "responseTime", "processingTime", "durationMs", "index", "attempts"),
    *("requests", "totalDeliveries", "pendingDeliveries", "inFlightDeliveries", "deliveredDeliveries"),
)
"""Numbers, by their keys."""
_COMMAND = re.compile(r"```sh\n(.*?)\n```(?:\n\n```json\n(.*?)\n```)?", re.DOTALL)


@asynccontextmanager
async def open_terminals(folder, environ):
    """Run each line of the first block that stays, and the one that does not, in its order."""
    (block,) = re.findall(r"```console\n(.*?)```", DOCUMENT, re.DOTALL)
    secret, write, *programs = block.splitlines()
    environ["WEBHOOK_SECRET"] = secret.partition("=")[2]
    await trio.run_process(["bash", "-c", translated(write)], env=environ, cwd=REPOSITORY)
    async with AsyncExitStack() as stack:
        for number, line in enumerate(programs):
            log = stack.enter_context((folder / f"{number}.log").open("wb"))
            process = await trio.lowlevel.open_process(
                ["bash", "-c", f"exec {translated(line)}"],
                env=environ,
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
            )
            stack.push_async_callback(end, process)
            if number == 0:
                await until(lambda: ready(folder / "state" / "ready.json"))
        await until(lambda: ready(folder / "workers-1" / "ready.json"))
        await until(lambda: ready(folder / "workers-2" / "ready.json"))
        yield


async def ready(path):
    await trio.lowlevel.checkpoint()
    return path.exists()


async def end(process):
    with trio.CancelScope(shield=True):
        process.terminate()
        await process.wait()


def translated(line):
    """Put the interpreter that runs the test where the document has the one of `make run`."""
    # In one go: that interpreter's own path may have what is looked for in it.
    return re.sub(
        r"(?:\.venv/bin/)?econeura-daemon|\.venv/bin/python",
        lambda found: f"{sys.executable} -m econeura_daemon" if "econeura" in found[0] else sys.executable,
        line,
    )


async def typed(command, environ):
    done = await trio.run_process(
        ["bash", "-c", f"set -o pipefail; {translated(command)}"],
        capture_stdout=True, capture_stderr=True, check=False, env=environ, cwd=REPOSITORY,
    )  # fmt: skip
    assert done.returncode == 0, (command, done.stderr.decode())
    return done.stdout.decode()


async def test_every_command_of_the_document_answers_as_it_is_shown(tmp_path):
    port = free_port()
    environ = {
        **os.environ,
        "HOME": str(tmp_path),
        "URL": f"http://127.0.0.1:{port}",
        "ECONEURA_URL": f"http://127.0.0.1:{port}",
        "ECONEURA__HTTP__BIND": f"127.0.0.1:{port}",
        "ECONEURA__DAEMON__STATE_DIR": str(tmp_path / "state"),
        "ECONEURA__WORKER__DAEMON_URL": f"http://127.0.0.1:{port}",
        "ECONEURA__WORKER__PROCESSES": "1",
    }
    examples = _COMMAND.findall(DOCUMENT)
    assert len(examples) == DOCUMENT.count("```sh")
    with trio.fail_after(100):
        async with open_terminals(tmp_path, environ):
            healthy = "$URL/v1/services?type=workers&status=healthy"

            async def both_are_well():
                return len(json.loads(await typed(f'curl -s "{healthy}"', environ))["data"]["items"]) == 2

            await until(both_are_well)
            variables = ""
            for command, shown in examples:
                if "cron_executed" in command:
                    continue  # it comes at the next full minute
                document = await compared(variables + command, shown, environ)
                variables += "".join(re.findall(r"^[A-Z]+=.*\n", command, re.MULTILINE))
                if "Prefer" in command:
                    environ["JOB"] = document["data"]["jobId"]


async def compared(command, shown, environ):
    """Type it, and compare what is answered; what is only looked at may become so within some seconds."""
    got = ""
    with trio.move_on_after(15):
        while True:
            got = await typed(command.replace("curl ", "curl -s "), environ)
            try:
                return told(command, shown, got)
            except AssertionError:
                if "--json" in command:
                    raise
            await trio.sleep(0.1)
    return told(command, shown, got)


def told(command, shown, got):
    if not shown:
        assert got, command
        return None
    document = json.loads(got)
    assert_like(json.loads(shown), document, command, varying=VARYING)
    return document
