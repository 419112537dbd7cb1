"""The daemon as a process: draining, signals, exit codes, reload. Real sockets, real signals."""

import json
import os
import re
import signal
from urllib.parse import urlsplit

import pytest
import trio

from econeura_daemon.supervision.signals import GRACE
from tests.support.daemon import REPOSITORY, open_running_daemon, start_daemon, write_config
from tests.support.receiver import open_receiver
from tests.support.waiting import until

pytestmark = pytest.mark.slow


async def subscribe(client, url, **fields):
    answer = await client.post("/v1/webhooks/subscriptions", {"url": url, "events": ["a.*"], **fields})
    assert answer.status == 201, answer.body
    return answer.data


async def publish(client, n):
    events = [{"type": "a.b", "data": {"n": i}} for i in range(n)]
    answer = await client.post("/v1/events/batch", {"events": events})
    assert answer.status == 202, answer.body
    return [item["id"] for item in answer.data["items"]]


async def nothing_pends(client):
    return not (await client.get("/v1/webhooks/stats")).data["pendingDeliveries"]


async def logged(daemon, fits):
    return next((line for line in daemon.log_lines() if fits(line)), None)


async def open_raw(daemon, request: bytes) -> trio.SocketStream:
    parts = urlsplit(daemon.url)
    stream = await trio.open_tcp_stream(parts.hostname, parts.port)
    await stream.send_all(request.replace(b"HOST", parts.netloc.encode()))
    return stream


async def test_sigterm_with_work_under_way_drains_within_its_time_and_loses_nothing(tmp_path):
    """50 attempts in flight at a receiver slower than the drain, a stream, clients that stopped reading."""
    is_slow = True

    async def answer(_received):
        if is_slow:
            await trio.sleep_forever()
        return 204

    config = write_config(tmp_path / "state")
    async with open_receiver(answer) as receiver:
        async with open_running_daemon(config) as daemon:
            async with daemon.client() as client:
                await subscribe(client, receiver.url, maxInFlight=50)
                ids = await publish(client, 60)
                with trio.fail_after(20):
                    await receiver.wait_for(50)
            stream = await open_raw(daemon, b"GET /v1/stream?after=0 HTTP/1.1\r\nHost: HOST\r\n\r\n")
            assert b"200" in await stream.receive_some(100)
            deaf = [
                await open_raw(daemon, b"GET /v1/events?limit=250 HTTP/1.1\r\nHost: HOST\r\n\r\n" * 200)
                for _ in range(3)
            ]
            await trio.sleep(1)  # until the deaf clients' buffers are full
            started = trio.current_time()
            daemon.terminate()
            with trio.fail_after(30):
                while await stream.receive_some(65536):
                    pass  # the stream ends by itself
                assert await daemon.wait() == 0
            assert trio.current_time() - started < 5 + GRACE  # from then on it is ended by force, with 70
            for one in (stream, *deaf):
                await one.aclose()
        is_slow = False
        receiver.received.clear()
        async with open_running_daemon(config) as daemon, daemon.client() as client:
            await until(lambda: nothing_pends(client), 60)
            deliveries = (await client.get("/v1/webhooks/deliveries", {"limit": 250})).data["items"]
    assert receiver.ids() == set(ids)
    assert [one["attempts"] for one in deliveries] == [1] * 60, "what the drain gave back cost no attempt"


async def test_attempts_that_end_within_the_drain_are_recorded(tmp_path):
    async def answer(_received):
        await trio.sleep(1.5)
        return 204

    config = write_config(tmp_path / "state")
    async with open_receiver(answer) as receiver:
        async with open_running_daemon(config) as daemon:
            async with daemon.client() as client:
                await subscribe(client, receiver.url)
                await publish(client, 5)
                with trio.fail_after(20):
                    await receiver.wait_for(5)
            daemon.terminate()
            assert await daemon.wait() == 0
        async with open_running_daemon(config) as daemon, daemon.client() as client:
            stats = (await client.get("/v1/webhooks/stats")).data
    assert (stats["deliveredDeliveries"], stats["pendingDeliveries"]) == (5, 0)
    assert len(receiver.received) == 5


async def test_a_second_sigterm_stops_at_once(tmp_path):
    async def never(_received):
        await trio.sleep_forever()

    config = write_config(tmp_path / "state")
    async with open_receiver(never) as receiver, open_running_daemon(config) as daemon:
        async with daemon.client() as client:
            await subscribe(client, receiver.url)
            await publish(client, 5)
            with trio.fail_after(20):
                await receiver.wait_for(5)
        daemon.terminate()
        await trio.sleep(0.3)
        started = trio.current_time()
        daemon.terminate()
        assert await daemon.wait() == 0
        assert trio.current_time() - started < 3


async def test_a_second_daemon_on_the_same_state_directory_is_refused_with_75(tmp_path):
    config = write_config(tmp_path / "state")
    async with open_running_daemon(config) as daemon:
        other = tmp_path / "other.toml"
        other.write_text(config.read_text())
        with pytest.raises(AssertionError, match="ended with 75") as refusal:
            async with open_running_daemon(other):
                pass
        assert f"pid {daemon.process.pid}" in str(refusal.value)


async def test_a_bad_configuration_is_refused_with_78_and_every_mistake(tmp_path):
    config = write_config(tmp_path / "state", extra='max_in_flght = 3\ntimeout_ms = "soon"\n')
    with pytest.raises(AssertionError, match="ended with 78") as refusal:
        await start_daemon(config)
    assert "max_in_flight" in str(refusal.value)
    assert "timeout_ms" in str(refusal.value)


async def test_a_taken_port_ends_it_with_1_so_that_systemd_tries_again_and_is_named(tmp_path):
    async with open_running_daemon(write_config(tmp_path / "one")) as daemon:
        config = write_config(tmp_path / "two")
        config.write_text(config.read_text().replace("127.0.0.1:0", urlsplit(daemon.url).netloc))
        with pytest.raises(AssertionError, match="ended with 1") as refusal:
            await start_daemon(config)
        assert urlsplit(daemon.url).netloc in str(refusal.value)


async def test_sighup_takes_over_what_can_be_and_says_what_cannot(tmp_path):
    config = write_config(tmp_path / "state")
    async with open_receiver() as receiver, open_running_daemon(config) as daemon, daemon.client() as client:
        text = config.read_text().replace('["127.0.0.0/8", "::1/128"]', "[]")
        config.write_text(text.replace("drain_timeout_ms = 5000", "drain_timeout_ms = 4000"))
        daemon.process.send_signal(signal.SIGHUP)
        await until(lambda: logged(daemon, lambda line: "needs a restart" in line.get("message", "")))
        await subscribe(client, receiver.url)
        await publish(client, 1)

        async def last_error():
            return (await client.get("/v1/webhooks/deliveries")).data["items"][0]["lastError"]

        assert "webhooks.allowed_networks" in await until(last_error)
        assert receiver.received == []


async def test_a_bad_file_at_sighup_keeps_the_old_settings_and_says_so(tmp_path):
    config = write_config(tmp_path / "state")
    async with open_receiver() as receiver, open_running_daemon(config) as daemon, daemon.client() as client:
        config.write_text(config.read_text() + "\nnonsense = 1\n")
        daemon.process.send_signal(signal.SIGHUP)
        await until(lambda: logged(daemon, lambda line: line.get("level") == "error"))
        assert "nonsense" in daemon.log.read_text()
        await subscribe(client, receiver.url)
        await publish(client, 1)
        with trio.fail_after(10):
            await receiver.wait_for(1)


async def test_systemd_is_told_ready_reloading_watchdog_and_stopping(tmp_path):
    with trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_DGRAM) as service_manager:
        path = tmp_path / "notify"
        await service_manager.bind(str(path))
        config = write_config(tmp_path / "state")
        environ = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "500000"}
        said = []

        async def until(word):
            with trio.fail_after(20):
                while not any(word in one for one in said):
                    said.append((await service_manager.recv(4096)).decode())

        async with open_running_daemon(config, environ) as daemon:
            await until("READY=1")
            await until("WATCHDOG=1")
            daemon.process.send_signal(signal.SIGHUP)
            await until("RELOADING=1")
            said.clear()
            await until("READY=1")
            daemon.terminate()
            await until("STOPPING=1")
            assert await daemon.wait() == 0


async def test_ready_json_tells_where_and_is_gone_after_the_drain(tmp_path):
    config = write_config(tmp_path / "state")
    async with open_running_daemon(config) as daemon:
        document = json.loads((daemon.state_dir / "ready.json").read_text())
        assert document["event"] == "ready"
        assert document["pid"] == daemon.process.pid
        line = await until(lambda: logged(daemon, lambda line: line.get("event") == "ready"))
        assert line["urls"] == document["urls"]
        daemon.terminate()
        assert await daemon.wait() == 0
    assert not (daemon.state_dir / "ready.json").exists()


async def test_a_stop_of_two_seconds_expires_nothing(tmp_path):
    """A suspended machine, in small: the process is stopped and goes on."""
    config = write_config(tmp_path / "state")
    async with open_receiver() as receiver, open_running_daemon(config) as daemon, daemon.client() as client:
        await subscribe(client, receiver.url)
        os.kill(daemon.process.pid, signal.SIGSTOP)
        await trio.sleep(2)
        os.kill(daemon.process.pid, signal.SIGCONT)
        await publish(client, 3)
        with trio.fail_after(10):
            await receiver.wait_for(3)
        health = await client.get("/health")
        assert health.status == 200


async def test_the_metrics_that_the_guide_names_are_on_the_page(tmp_path):
    guide = (REPOSITORY / "docs" / "operating.md").read_text()
    named = set(
        re.findall(r"econeura_[a-z_]+", guide.partition("## Metrics")[2].partition("## What to do")[0])
    )
    config = write_config(tmp_path / "state")
    async with open_receiver() as receiver, open_running_daemon(config) as daemon, daemon.client() as client:
        await subscribe(client, receiver.url)
        await publish(client, 1)
        await until(lambda: nothing_pends(client))

        async def page():
            shown = (await client.get("/metrics")).body.decode()
            return shown if named <= set(re.findall(r"^# HELP (\w+)", shown, re.MULTILINE)) else None

        shown = await until(page)
    assert len(named) >= 9
    assert "econeura_log_lines_dropped_total 0.0" in shown
    assert 'econeura_deliveries_total{outcome="delivered"} 1.0' in shown
