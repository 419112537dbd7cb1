"""A daemon that is stopped, for a while or for good: nothing expires, and nobody is left without an answer."""

import signal

import pytest
import trio

from tests.support.daemon import open_running_daemon, write_config
from tests.support.ports import free_port


async def stop_and_go_on(tmp_path, *, ttl_ms, stopped, watched):
    """Return what the registry holds, every half second for ``watched`` seconds after a stop of ``stopped``."""
    config = write_config(tmp_path / "state", "[discovery]\nheartbeat_interval_ms = 500\n")
    ids = [f"w-{number}" for number in range(8)]
    seen = []
    async with open_running_daemon(config) as daemon:
        # Nothing listens there: whoever is still healthy afterwards is it by its lease alone.
        port = free_port()
        async with daemon.client() as client:
            for key in ids:
                body = {"id": key, "type": "workers", "host": "127.0.0.1", "port": port, "ttlMs": ttl_ms}
                assert (await client.post("/v1/services", body)).status == 201

        async def beat():
            while True:
                async with daemon.client() as own:  # as one that was kept may have been idle for too long
                    for key in ids:
                        assert (await own.request("PUT", f"/v1/services/{key}/heartbeat")).status == 200
                await trio.sleep(ttl_ms / 5000)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(beat)
            await trio.sleep(ttl_ms / 2000)
            daemon.process.send_signal(signal.SIGSTOP)
            await trio.sleep(stopped)
            daemon.process.send_signal(signal.SIGCONT)
            for _ in range(int(watched * 2)):
                async with daemon.client() as watcher:
                    answer = await watcher.get("/v1/services", {"type": "workers"})
                seen.append({one["id"]: one["status"] for one in answer.data["items"]})
                await trio.sleep(0.5)
            nursery.cancel_scope.cancel()
        async with daemon.client() as client:
            events = (await client.get("/v1/events", {"type": "service.status_changed"})).data["items"]
    assert seen
    assert all(one == dict.fromkeys(ids, "healthy") for one in seen), seen
    assert [one for one in events if one["data"]["service"]["id"] in ids] == []


async def test_a_stop_that_is_longer_than_every_lease_expires_nothing(tmp_path):
    with trio.fail_after(60):
        await stop_and_go_on(tmp_path, ttl_ms=1500, stopped=4, watched=4)


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_a_stop_of_two_minutes_expires_nothing(tmp_path):
    await stop_and_go_on(tmp_path, ttl_ms=30_000, stopped=120, watched=45)


async def test_at_sigterm_a_long_poll_is_answered_and_probes_do_not_hold_the_drain(tmp_path):
    config = write_config(tmp_path / "state")
    answers = []
    async with open_running_daemon(config) as daemon:
        [silent] = await trio.open_tcp_listeners(0, host="127.0.0.1")  # accepts, and says nothing
        async with daemon.client() as client, trio.open_nursery() as nursery:
            port = silent.socket.getsockname()[1]
            body = {
                "id": "a",
                "type": "web",
                "host": "127.0.0.1",
                "port": port,
                "check": {"timeoutMs": 60_000},
            }
            assert (await client.post("/v1/services", body)).status == 201
            with trio.fail_after(10):
                accepted = await silent.accept()
            index = (await client.get("/v1/services")).headers["x-econeura-index"]

            async def poll():
                answers.append(await client.get("/v1/services", {"index": index, "wait": "60s"}))

            nursery.start_soon(poll)
            await trio.sleep(0.5)  # by then it waits
            assert answers == []
            began = trio.current_time()
            daemon.terminate()
            with trio.fail_after(10):
                assert await daemon.wait() == 0
            assert trio.current_time() - began < 4
        await accepted.aclose()
        await silent.aclose()
    assert [one.status for one in answers] == [200]
