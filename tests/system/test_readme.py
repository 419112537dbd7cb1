"""The README, done as it says: its commands run against a real daemon, its Python verifies what really arrived."""

import json
import re
import shlex
import subprocess
import sys
from contextlib import asynccontextmanager
from textwrap import indent

import pytest
import trio

from tests.support.daemon import REPOSITORY, open_running_daemon, write_config
from tests.support.mesh_upstream import open_upstream
from tests.support.ports import free_port
from tests.support.receiver import open_receiver
from tests.support.waiting import until

pytestmark = pytest.mark.slow

README = (REPOSITORY / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def translated(command, daemon, port):
    """Put the test's own ports and interpreter where the README has its fixed ones."""
    command = command.replace("http://127.0.0.1:3001", daemon.url)
    command = command.replace(
        ".venv/bin/econeura-daemon", f"{shlex.quote(sys.executable)} -m econeura_daemon"
    )
    return command.replace("--port 9000", f"--port {port}").replace("127.0.0.1:9000", f"127.0.0.1:{port}")


async def shell(command):
    done = await trio.run_process(
        ["bash", "-c", command], capture_stdout=True, capture_stderr=True, check=False, cwd=REPOSITORY
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@asynccontextmanager
async def background(command, log):
    with log.open("wb") as out:
        process = await trio.lowlevel.open_process(
            ["bash", "-c", f"exec {command}"], stdout=out, stderr=subprocess.STDOUT, cwd=REPOSITORY
        )
    try:
        yield
    finally:
        process.terminate()
        with trio.CancelScope(shield=True):
            await process.wait()


async def test_the_main_job_works_as_the_readme_tells_it(tmp_path, monkeypatch):
    listen, publish, subscribe, look, *_ = blocks("sh")
    port, log = free_port(), tmp_path / "listen.log"
    async with open_running_daemon(write_config(tmp_path / "state")) as daemon:
        monkeypatch.setenv("ECONEURA_URL", daemon.url)

        async def printed(text):
            return text in log.read_text()

        async with background(translated(listen.strip(), daemon, port), log):
            await until(lambda: printed("subscribed"))
            code, out, err = await shell(translated(publish, daemon, port))
            assert code == 0, err
            document = json.loads(out)
            assert document["success"] is True
            assert document["data"]["deliveries"] == 1
            await until(lambda: printed(document["data"]["id"]))
            assert "verified" in log.read_text()
            code, out, err = await shell(translated(subscribe, daemon, port))
            assert code == 0, err
            assert json.loads(out)["data"]["secret"].startswith("whsec_")
        for line in look.strip().splitlines():
            code, out, err = await shell(translated(f"timeout 2 {line}", daemon, port))
            assert code == (124 if "/v1/stream" in line else 0), (line, err)
            assert out or "/v1/stream" in line, line


async def test_the_readmes_python_verifies_what_arrives(tmp_path):
    verify, _ = blocks("python")
    async with (
        open_receiver() as receiver,
        open_running_daemon(write_config(tmp_path / "state")) as daemon,
        daemon.client() as client,
    ):
        made = await client.post("/v1/webhooks/subscriptions", {"url": receiver.url, "events": ["*"]})
        await client.post("/v1/events", {"type": "order.paid", "data": {"order": 17}})
        with trio.fail_after(20):
            await receiver.wait_for(1)
    (one,) = receiver.received
    found = {"secret": made.data["secret"], "body": one.body, "headers": one.headers}
    exec(verify, found)
    assert found["event"]["data"] == {"order": 17}


async def test_services_register_and_are_found_as_the_readme_tells_it(tmp_path, monkeypatch):
    _, register = blocks("python")
    *_, by_hand, look, _call, _jobs = blocks("sh")
    list_, watch = look.strip().splitlines()
    async with open_running_daemon(write_config(tmp_path / "state")) as daemon:
        monkeypatch.setenv("ECONEURA_URL", daemon.url)

        async def serve():
            code, out, err = await shell(translated(by_hand, daemon, 0))
            assert code == 0, err
            made, renewed = map(json.loads, out.replace("}{", "}\n{").splitlines())
            assert made["data"]["status"] == renewed["data"]["status"] == "healthy"
            code, out, err = await shell(translated(list_, daemon, 0))
            assert code == 0, err
            assert {one["port"] for one in json.loads(out)["data"]["items"]} == {8080, 8081}
            code, out, err = await shell(translated(f"{watch} --count 2", daemon, 0))
            assert code == 0, err
            assert [line.split()[1:3] for line in out.splitlines()] == [
                ["present", "orders-2"],
                ["present", "orders:127.0.0.1:8080"],
            ]

        found = {"serve": serve}
        exec("async def main():\n" + indent(register, "    "), found)
        with trio.fail_after(60):
            await found["main"]()
        async with daemon.client() as client:
            left = (await client.get("/v1/services?type=orders")).data["items"]
        assert [one["id"] for one in left] == ["orders-2"]


def test_the_readme_names_files_that_are_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (REPOSITORY / target).exists(), target


async def test_a_service_is_called_at_once_and_by_a_job_as_the_readme_tells_it(tmp_path, monkeypatch):
    *_, call, jobs = blocks("sh")
    async with (
        open_upstream() as orders,
        open_running_daemon(write_config(tmp_path / "state")) as daemon,
        daemon.client() as client,
    ):
        monkeypatch.setenv("ECONEURA_URL", daemon.url)
        body = {"id": "orders-1", "type": "orders", "host": "127.0.0.1", "port": orders.port, "ttlMs": 60_000}
        await client.post("/v1/services", body)
        code, out, err = await shell(translated(call, daemon, 0))
        assert code == 0, err
        assert out.startswith("HTTP/1.1 200")
        assert "x-service-id: orders-1\nx-retries: 0\n" in out.replace("\r", "")
        assert [line.split()[0] for line in out.splitlines() if line.startswith("orders ")] == ["orders"]
        add, run, runs = translated(jobs, daemon, 0).strip().splitlines()
        for command in (add, run):
            code, out, err = await shell(command)
            assert code == 0, err

        async def succeeded():
            _, out, _ = await shell(runs)
            return "succeeded" in out

        with trio.fail_after(30):
            await until(succeeded)
        assert [one.line for one in orders.requests] == [
            b"GET /v1/orders?open=1 HTTP/1.1",
            b"POST /v1/orders/close HTTP/1.1",
        ]
