"""Services on Trio and on asyncio register themselves with a real daemon, which dies and comes back beneath them."""

import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from tests.support.daemon import REPOSITORY, open_running_daemon, write_config
from tests.support.waiting import until

TTL = 1.5
ID = "orders:127.0.0.1:8080"


@attrs.define
class Program:
    process: trio.Process
    rest: bytes = b""

    async def tell(self, word):
        await self.process.stdin.send_all(word.encode() + b"\n")

    async def says(self):
        with trio.fail_after(30):
            while b"\n" not in self.rest:
                chunk = await self.process.stdout.receive_some()
                assert chunk, "the program ended"
                self.rest += chunk
        line, self.rest = self.rest.split(b"\n", 1)
        return line.decode()

    async def ends(self):
        with trio.fail_after(30):
            return await self.process.wait()


@asynccontextmanager
async def open_program(loop, config, *, ttl=TTL, **environ):
    with config.with_suffix(".errors").open("wb") as errors:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-W", "error", "-m", "tests.support.registrant_program", loop, "8080", str(ttl)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=REPOSITORY,
            env={**os.environ, "ECONEURA_CONFIG": str(config), "HOME": str(config.parent), **environ},
        )
    try:
        yield Program(process)
    finally:
        if process.poll() is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdin.aclose()
            await process.stdout.aclose()


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path / "state")


async def registered_at(daemon):
    async with daemon.client() as client:
        return {one["id"]: one for one in (await client.get("/v1/services?type=orders")).data["items"]}


def on_both_loops(test):
    return pytest.mark.parametrize("loop", ["trio", "asyncio"])(test)


@on_both_loops
async def test_a_service_is_there_until_it_leaves_however_it_leaves(loop, config):
    async with open_running_daemon(config) as daemon:
        for end, code in (("leave", 0), ("raise", 1), (signal.SIGINT, -signal.SIGINT)):
            async with open_program(loop, config) as program:
                assert await program.says() == f"{ID} True"
                if end == "leave":
                    await trio.sleep(2 * TTL)  # its lease would be over
                assert (await registered_at(daemon))[ID]["status"] == "healthy"
                if end == signal.SIGINT:
                    program.process.send_signal(end)
                    await program.tell("")  # wakes the thread that reads: it cannot be cancelled
                else:
                    await program.tell(end)
                assert await program.ends() == code
                assert await registered_at(daemon) == {}
        async with open_program(loop, config) as program:
            assert await program.says() == f"{ID} True"
            program.process.kill()

            async def has_expired():
                return (await registered_at(daemon))[ID]["status"] == "unhealthy"

            await until(has_expired)


@on_both_loops
async def test_a_block_that_is_cancelled_leaves_nothing_and_touches_no_other(loop, config):
    async with open_running_daemon(config) as daemon, open_program(loop, config) as program:
        await program.says()
        for _ in range(5):
            await program.tell("cancel")
            assert await program.says() == "cancelled"
            assert set(await registered_at(daemon)) == {ID}
        await program.tell("drain")
        assert await program.says() == "draining"
        assert (await registered_at(daemon))[ID]["status"] == "draining"


@on_both_loops
@pytest.mark.parametrize("state", ["kept", "lost"])
async def test_a_daemon_that_is_killed_finds_its_services_again_at_another_port(loop, state, config):
    async with open_running_daemon(config) as daemon, open_program(loop, config, ttl=30) as program:
        assert await program.says() == f"{ID} True"
        daemon.kill()
        await daemon.wait()

        async def notices(said):
            await program.tell("look")
            return (await program.says()).startswith(said)

        if state == "lost":
            for path in daemon.state_dir.glob("econeura.db*"):
                path.unlink()
        async with open_running_daemon(config) as again:
            assert again.url != daemon.url

            async def is_there():
                found = await registered_at(again)
                return ID in found and found[ID]["lastHeartbeat"] is not None

            await until(is_there)
            assert (await registered_at(again))[ID]["status"] == "healthy"
            await until(lambda: notices("True None"))
            await program.tell("leave")
            assert await program.ends() == 0
            assert await registered_at(again) == {}


@on_both_loops
async def test_a_daemon_that_is_absent_at_the_start_is_found_when_it_comes_over_a_unix_socket(
    loop, config, tmp_path
):
    path = tmp_path / "s"
    config.write_text(config.read_text().replace('["127.0.0.1:0"]', f'["127.0.0.1:0", "unix:{path}"]'))
    async with open_program(loop, config, ECONEURA_URL=f"unix:{path}") as program:
        assert await program.says() == f"{ID} False"
        async with open_running_daemon(config) as daemon:

            async def is_there():
                return ID in await registered_at(daemon)

            await until(is_there)
            await program.tell("leave")
            assert await program.ends() == 0
            assert await registered_at(daemon) == {}


async def test_a_token_of_scope_publish_is_enough_but_for_maintenance(config):
    config.write_text(config.read_text() + "[auth]\nrequired = true\n")
    made = await trio.run_process(
        [
            sys.executable,
            "-m",
            "econeura_daemon",
            "token",
            "create",
            "x",
            "--scopes",
            "publish",
            "-o",
            "jsonl",
        ],
        capture_stdout=True,
        cwd=REPOSITORY,
        env={**os.environ, "ECONEURA_CONFIG": str(config)},
    )
    token = made.stdout.decode().partition('"token":"')[2].partition('"')[0]
    async with open_running_daemon(config), open_program("trio", config, ECONEURA_TOKEN=token) as program:
        assert await program.says() == f"{ID} True"
        await program.tell("drain")
        assert await program.ends() == 1
        assert "403" in config.with_suffix(".errors").read_text()
    async with open_running_daemon(config), open_program("asyncio", config) as program:
        assert await program.ends() == 1
        assert "set ECONEURA_TOKEN" in config.with_suffix(".errors").read_text()
