"""The command line against a real daemon: its own process, real sockets."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio

from tests.support.daemon import open_running_daemon, write_config
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
CLI = [sys.executable, "-m", "econeura_daemon"]

_ID = re.compile(r"\b(?:evt|sub|del|att|tok)_[0-9A-Z]{26}\b")
_EXAMPLE_ID = re.compile(r"\b(?:evt|sub|del|att|tok)_01JDEXAMPLE[0-9]{15}\b")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def config(tmp_path):
    state = tmp_path / "state"
    return write_config(state)


def environment(config: Path, **more: str) -> dict[str, str]:
    """The user's own, without anything that leads to another daemon."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("ECONEURA", "STATE_DIR"))
    }
    return {**kept, "ECONEURA_CONFIG": str(config), "HOME": str(config.parent), **more}


async def cli(
    config: Path, *arguments: str, stdin: bytes = b"", **environ: str
) -> subprocess.CompletedProcess:
    with trio.fail_after(30):
        return await trio.run_process(
            [*CLI, *arguments],
            stdin=stdin,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd=ROOT,
            env=environment(config, **environ),
        )


async def said(config: Path, *arguments: str, **named) -> list[dict]:
    """Run a command with ``-o jsonl`` and return what it printed."""
    done = await cli(config, *arguments, "-o", "jsonl", **named)
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


async def started(nursery: trio.Nursery, config: Path, *arguments: str) -> trio.Process:
    """Run a command beside the test; its output can be read while it runs."""
    run = partial(
        trio.run_process,
        [*CLI, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
        cwd=ROOT,
        env=environment(config),
    )
    return await nursery.start(run)


class Lines:
    """The lines of a stream, as they come."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._rest = b""

    async def next(self) -> str | None:
        """Return the next line; None at the end."""
        while b"\n" not in self._rest:
            chunk = await self._stream.receive_some()
            if not chunk:
                return None
            self._rest += chunk
        line, self._rest = self._rest.split(b"\n", 1)
        return line.decode()


async def test_the_examples_of_the_guide_are_what_happens(config, tmp_path):
    text = (ROOT / "docs" / "cli.md").read_text().replace("/tmp/econeura-backup.db", str(tmp_path / "b.db"))
    known: dict[str, str] = {}
    async with open_running_daemon(config):
        for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
            for example in re.split(r"^(?=\$ )", block, flags=re.MULTILINE)[1:]:
                command, *expected = example.splitlines()
                arguments = [known.get(word, word) for word in shlex.split(command)[2:]]
                done = await cli(config, *arguments)
                compare(command, expected, done, known)


def compare(command: str, expected: list[str], done: subprocess.CompletedProcess, known: dict[str, str]):
    code = 0
    if expected and (ends := re.fullmatch(r"\(exit (\d+)\)", expected[-1])):
        code = int(ends[1])
        expected = expected[:-1]
    for stream, wanted in (
        (done.stderr, [line[1:].removeprefix(" ") for line in expected if line.startswith("!")]),
        (done.stdout, [line for line in expected if not line.startswith("!")]),
    ):
        printed = "\n".join(line.rstrip() for line in stream.decode().rstrip("\n").split("\n"))
        text = "\n".join(wanted)
        new = [found for found in dict.fromkeys(_ID.findall(printed)) if found not in known.values()]
        unknown = [example for example in dict.fromkeys(_EXAMPLE_ID.findall(text)) if example not in known]
        known |= dict(zip(unknown, new, strict=False))
        for example, real in known.items():
            text = text.replace(example, real)
        pattern = re.escape(_INSTANT.sub("INSTANT", text)).replace("…", ".*")
        matched = re.fullmatch(pattern, _INSTANT.sub("INSTANT", printed), re.DOTALL)
        assert matched, f"{command}\nprinted:\n{printed}\nexpected:\n{text}"
    assert done.returncode == code, command


async def test_what_listens_sees_what_is_sent_signed_and_leaves_nothing_behind(config):
    async with open_running_daemon(config), trio.open_nursery() as nursery:
        listener = await started(
            nursery, config, "webhooks", "listen", "--subscribe", "order.*", "-o", "jsonl"
        )
        with trio.fail_after(30):
            errors = Lines(listener.stderr)
            assert "subscribed as sub_" in await errors.next()
            (sent,) = await said(config, "events", "send", "order.paid", "--data", '{"n": 1}')
            assert sent["deliveries"] == 1
            arrival = json.loads(await Lines(listener.stdout).next())
            assert arrival["verified"] is True
            assert (arrival["id"], arrival["event"], arrival["status"]) == (sent["id"], "order.paid", 204)
            assert (arrival["attempt"], arrival["duplicate"]) == (1, False)
            assert arrival["body"]["data"] == {"n": 1}
            assert len(await said(config, "webhooks", "list")) == 1
            listener.send_signal(signal.SIGINT)
            assert await listener.wait() == 130
            assert await errors.next() is None
        assert await said(config, "webhooks", "list") == []


async def test_a_listener_that_fails_gets_the_delivery_again(config):
    with config.open("a") as file:
        file.write("[webhooks.retry]\ndelay_ms = 50\nmax_attempts = 50\n")
    async with open_running_daemon(config):
        done: list[subprocess.CompletedProcess] = []

        async def listen():
            arguments = (
                "--subscribe",
                "*",
                "--fail-rate",
                "0.7",
                "--count",
                "4",
                "-o",
                "jsonl",
                "--delay",
                "5",
            )
            done.append(await cli(config, "webhooks", "listen", *arguments))

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                while not await said(config, "webhooks", "list"):
                    pass
                for n in range(4):
                    await said(config, "events", "send", "a.b", "--id", f"e{n}")
        arrivals = [json.loads(line) for line in done[0].stdout.splitlines()]
        assert done[0].returncode == 0
        assert len(arrivals) == 4
        assert all(arrival["verified"] and arrival["status"] in {204, 500} for arrival in arrivals)


async def test_a_tail_survives_a_restart_of_the_daemon_without_gap_or_repeat(config):
    port = free_port()
    config.write_text(config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    async with trio.open_nursery() as nursery:
        async with open_running_daemon(config) as daemon:
            tail = await started(
                nursery, config, *shlex.split("events tail --types a.* --after 0 --count 4 -o jsonl")
            )
            lines = Lines(tail.stdout)
            with trio.fail_after(30):
                for n in (1, 2):
                    await said(config, "events", "send", "a.b", "--id", f"e{n}")
                    await said(config, "events", "send", "c", "--id", f"c{n}")
                assert json.loads(await lines.next())["id"] == "e1"
                assert json.loads(await lines.next())["id"] == "e2"
                daemon.terminate()
                assert await daemon.wait() == 0
        async with open_running_daemon(config):
            with trio.fail_after(30):
                for n in (3, 4):
                    await said(config, "events", "send", "a.b", "--id", f"e{n}")
                assert json.loads(await lines.next())["id"] == "e3"
                assert json.loads(await lines.next())["id"] == "e4"
                assert await lines.next() is None
                assert await tail.wait() == 0


async def test_a_watcher_survives_the_daemons_death_and_tells_what_changed_meanwhile(config):
    port = free_port()
    config.write_text(config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    register = ("services", "register", "127.0.0.1:9", "--type", "orders", "--ttl", "1h", "--id")
    async with trio.open_nursery() as nursery:
        async with open_running_daemon(config) as daemon:
            await said(config, *register, "a")
            await said(config, *register, "b")
            watcher = await started(
                nursery, config, *shlex.split("services watch --type orders --count 6 -o jsonl")
            )
            lines = Lines(watcher.stdout)

            async def change() -> tuple[str, str, str | None]:
                found = json.loads(await lines.next())
                return found["change"], found["id"], found["status"]

            with trio.fail_after(30):
                assert await change() == ("present", "a", "healthy")
                assert await change() == ("present", "b", "healthy")
                await said(config, "services", "drain", "a")
                assert await change() == ("status", "a", "draining")
            daemon.kill()
            await daemon.wait()
        errors = Lines(watcher.stderr)
        with trio.fail_after(30):
            assert "coming back" in await errors.next()
        async with open_running_daemon(config):
            with trio.fail_after(30):
                assert "answers again" in await errors.next()
                await said(config, "services", "deregister", "a")
                assert await change() == ("removed", "a", None)
                await said(config, *register, "c")
                assert await change() == ("added", "c", "healthy")
                await said(config, *register, "c", "--tags", "x")
                found = json.loads(await lines.next())
                assert (found["change"], found["fields"]) == ("changed", ["tags", "registeredAt"])
                assert await watcher.wait() == 0


async def test_a_token_opens_what_its_scopes_allow_and_is_asked_for_where_required(config):
    config.write_text(config.read_text() + "[auth]\nrequired = true\n")
    (reader,) = await said(config, "token", "create", "reader", "--scopes", "read")
    async with open_running_daemon(config):
        refused = await cli(config, "events", "list")
        assert refused.returncode == 4
        assert b"ECONEURA_TOKEN" in refused.stderr
        token_file = config.with_suffix(".token")
        token_file.write_text(reader["token"] + "\n")
        assert await said(config, "events", "list", "--type", "a", ECONEURA_TOKEN=reader["token"]) == []
        assert await said(config, "events", "list", "--type", "a", ECONEURA_TOKEN_FILE=str(token_file)) == []
        beyond = await cli(config, "events", "send", "a.b", "--token", reader["token"])
        assert beyond.returncode == 4
        assert reader["token"].encode() not in beyond.stderr
        (publisher,) = await said(config, "token", "create", "publisher", "--scopes", "publish")
        assert await said(config, "events", "send", "a.b", ECONEURA_TOKEN=publisher["token"])
        await said(config, "token", "revoke", "publisher")
        gone = await cli(config, "events", "send", "a.b", ECONEURA_TOKEN=publisher["token"])
        assert gone.returncode == 4


async def test_a_unix_socket_is_found_and_preferred(config, tmp_path):
    socket = tmp_path / "s"
    config.write_text(config.read_text().replace('["127.0.0.1:0"]', f'["127.0.0.1:0", "unix:{socket}"]'))
    async with open_running_daemon(config):
        (status,) = await said(config, "status")
        assert status["url"] == f"unix:{socket}"
        assert await said(config, "events", "list", "--type", "a", "--url", f"unix:{socket}") == []


async def test_data_comes_from_a_file_or_standard_input(config, tmp_path):
    (tmp_path / "d.json").write_text('{"from": "file"}')
    async with open_running_daemon(config):
        await said(config, "events", "send", "a", "--data", f"@{tmp_path}/d.json")
        await said(config, "events", "send", "a", "--data", "-", stdin=b'{"from": "stdin"}')
        found = await said(config, "events", "list", "--type", "a")
        assert [event["data"]["from"] for event in found] == ["stdin", "file"]


async def test_a_list_goes_on_over_pages_up_to_the_limit(config):
    async with open_running_daemon(config) as daemon:
        async with httpx.AsyncClient(base_url=daemon.url, trust_env=False, verify=False) as client:
            batch = {"events": [{"type": "a", "data": {"n": n}} for n in range(600)]}
            assert (await client.post("/v1/events/batch", json=batch)).status_code == 202
        found = await said(config, "events", "list", "--limit", "520")
        assert [event["data"]["n"] for event in found] == list(range(599, 79, -1))


async def test_a_backup_is_restored_once_the_daemon_stopped(config, tmp_path):
    copy = str(tmp_path / "copy.db")
    async with open_running_daemon(config) as daemon:
        await said(config, "events", "send", "a", "--id", "kept")
        assert (await said(config, "db", "backup", copy))[0]["bytes"] > 0
        assert (await cli(config, "db", "backup", copy)).returncode == 6
        assert (await cli(config, "db", "restore", "--yes", copy)).returncode == 6
        await said(config, "events", "send", "a", "--id", "later")
        daemon.terminate()
        assert await daemon.wait() == 0
    assert (await cli(config, "db", "restore", copy, stdin=b"n\n")).returncode == 130
    (restored,) = await said(config, "db", "restore", "--yes", copy)
    assert await trio.Path(restored["kept"]).exists()
    (report,) = await said(config, "db", "check")
    assert report["flaws"] == []
    (versions,) = await said(config, "db", "migrate")
    assert versions["from"] == versions["to"] == report["newest"]
    async with open_running_daemon(config):
        assert [event["id"] for event in await said(config, "events", "list", "--type", "a")] == ["kept"]


async def test_serve_tells_a_bad_configuration_and_a_held_state_directory_by_its_exit_code(config, tmp_path):
    bad = tmp_path / "bad.toml"
    bad.write_text("[http]\nbnd = 1\n")
    wrong = await cli(config, "serve", "--config", str(bad))
    assert wrong.returncode == 78
    assert f"{bad}:2: http.bnd: unknown key; did you mean 'bind'?" in wrong.stderr.decode()
    async with open_running_daemon(config):
        held = await cli(config, "serve", "--config", str(config))
        assert held.returncode == 75
