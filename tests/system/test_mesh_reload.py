"""The mesh of a real daemon, as an operator meets it: variables, a dead instance, SIGHUP, the commands."""

import signal

import trio

from tests.support.daemon import open_running_daemon, write_config
from tests.support.mesh_upstream import open_upstream
from tests.support.waiting import until
from tests.system.test_cli import cli, said

MESH = '[mesh.workers]\nbalancer = "round_robin"\nretries = 5\n'
NARROW = MESH + 'allow = ["GET /echo", "POST /emails/*"]\n[mesh.workers.faults]\nabort_status = 418\n'
INSTALLED = {"WORKERS_TIMEOUT": "4000", "WORKERS_RETRIES": "2", "WORKERS_CIRCUIT_BREAKER_THRESHOLD": "2"}
PATIENCE = 90


async def register(client, name, port):
    body = {"id": name, "type": "workers", "host": "127.0.0.1", "port": port, "ttlMs": 600_000}
    assert (await client.post("/v1/services", body)).status == 201


async def reload(daemon, config, extra, is_done):
    write_config(daemon.state_dir, extra)
    assert config.read_text().endswith(extra + "\n")
    daemon.process.send_signal(signal.SIGHUP)
    await until(is_done)


async def test_an_operator_sees_what_becomes_of_calls_and_changes_it_without_a_restart(tmp_path):
    config = write_config(tmp_path / "state", MESH)
    with trio.fail_after(PATIENCE):
        async with (
            open_upstream() as lasting,
            open_running_daemon(config, INSTALLED) as daemon,
            daemon.client() as client,
        ):

            async def mesh():
                (item,) = (await client.get("/v1/mesh", {"type": "workers"})).data["items"]
                return item

            async with open_upstream() as mortal:
                await register(client, "lasting", lasting.port)
                await register(client, "mortal", mortal.port)
                policy = (await mesh())["policy"]
                assert (policy["timeoutMs"], policy["retries"], policy["circuitBreakerThreshold"]) == (
                    4000,
                    2,
                    2,
                )
                assert policy["balancer"] == "round_robin"
                for _ in range(4):
                    assert (await client.get("/v1/mesh/workers/echo")).status == 200
                assert (len(lasting.requests), len(mortal.requests)) == (2, 2)

            for _ in range(8):  # one of the two is gone
                assert (await client.get("/v1/mesh/workers/echo")).status == 200
            assert len(lasting.requests) == 10

            async def opened():
                return (await client.get("/v1/events", {"type": "mesh.circuit_opened"})).data["items"]

            (event,) = await until(opened)
            assert (event["data"]["type"], event["data"]["serviceId"]) == ("workers", "mortal")
            assert "2 failures in a row" in event["data"]["reason"]
            shown = (await cli(config, "mesh", "show", "workers", "-o", "table")).stdout.decode()
            assert "2 failures in a row" in shown
            calls = await said(config, "mesh", "calls", "--type", "workers")
            assert len(calls) == 12
            assert [made["serviceId"] for made in calls[-6]["attempts"]][-1] == "lasting"

            async def faults():
                return (await client.get("/v1/mesh/faults")).data["items"]

            await reload(daemon, config, NARROW, faults)
            assert (await client.get("/v1/mesh/workers/echo")).status == 418
            assert (await client.get("/v1/mesh/workers/admin")).status == 403
            health = (await client.get("/health")).data
            assert (health["status"], health["components"]["mesh"]["status"]) == ("degraded", "degraded")
            warnings = [line["message"] for line in daemon.log_lines() if line.get("level") == "warning"]
            assert any(text.startswith("mesh.workers.faults injects faults") for text in warnings)
            item = await mesh()
            assert item["policy"]["allow"] == ["GET /echo", "POST /emails/*"]
            assert [one["breaker"]["state"] for one in item["instances"]] == ["closed", "open"]
            assert len(lasting.requests) == 10
            (listed,) = await said(config, "mesh", "faults")
            assert (listed["static"], listed["abortStatus"], listed["until"]) == (True, 418, None)
            cleared = await cli(config, "mesh", "faults", "--clear", "-o", "table")
            assert cleared.stdout == b"Ended 0 faults; 1 stand in the configuration.\n"
            (call,) = await said(config, "mesh", "calls", "--status", "418")
            assert call["path"] == "/echo"

            async def none_are_left():
                return not await faults()

            await reload(daemon, config, MESH, none_are_left)
            assert (await client.get("/v1/mesh/workers/admin")).status == 200
            assert (await client.get("/health")).data["components"]["mesh"]["status"] == "healthy"
