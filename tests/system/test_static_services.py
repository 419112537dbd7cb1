"""Static services of a real daemon: from the file, over SIGHUP and a restart; and its own entry and heartbeat."""

import json
import signal

import trio

from tests.support.daemon import open_running_daemon, write_config
from tests.support.waiting import until


def declared(port, *ids, weight=100):
    table = '[[services]]\ntype = "db"\nhost = "127.0.0.1"\nport = {}\nid = "{}"\nweight = {}\n'
    check = 'check = {kind = "tcp", interval_ms = 200}\n'
    return "[discovery]\nheartbeat_interval_ms = 200\n" + "".join(
        table.format(port, key, weight) + check for key in ids
    )


async def listed(client):
    items = (await client.get("/v1/services", {"type": "db"})).data["items"]
    return {one["id"]: (one["status"], one["weight"]) for one in items}


async def test_the_file_says_who_is_there_at_the_start_on_sighup_and_after_a_restart(tmp_path):
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    config = write_config(tmp_path / "state", declared(port, "a", "b"))
    async with open_running_daemon(config) as daemon, daemon.client() as client:
        assert set(await listed(client)) == {"a", "b"}, "they are there when it is ready"

        async def lists(expected):
            return await listed(client) == expected

        await until(lambda: lists({"a": ("healthy", 100), "b": ("healthy", 100)}), 20)
        await client.request("PUT", "/v1/services/b/drain")
        registered = (await client.get("/v1/services/b")).data["registeredAt"]

        config.write_text(config.read_text() + "[[services]]\ntype = 'db'\nhost = '::'\n")
        daemon.process.send_signal(signal.SIGHUP)
        await until(lambda: was_told(daemon, "services[2].port: is missing"), 20)
        assert set(await listed(client)) == {"a", "b"}, "what is wrong changes nothing"

        write_config(tmp_path / "state", declared(port, "b", "c"))
        daemon.process.send_signal(signal.SIGHUP)
        await until(lambda: lists({"b": ("draining", 100), "c": ("healthy", 100)}), 20)
        assert (await client.get("/v1/services/b")).data["registeredAt"] == registered
        assert was_said(daemon, "in force from now on: services.a, services.c")
        assert (await client.request("DELETE", "/v1/services/b")).status == 409
        daemon.terminate()
        assert await daemon.wait() == 0
    write_config(tmp_path / "state", declared(port, "b"))
    async with open_running_daemon(config) as daemon, daemon.client() as client:
        assert await listed(client) == {"b": ("draining", 100)}
    for listener in listeners:
        await listener.aclose()


def was_said(daemon, text):
    return text in daemon.log.read_text()


async def was_told(daemon, text):
    return was_said(daemon, text)


async def test_a_daemon_is_in_its_own_registry_and_beats_on_the_stream(tmp_path):
    config = write_config(tmp_path / "state", "[discovery]\nheartbeat_interval_ms = 200\n")
    async with open_running_daemon(config) as daemon, daemon.client() as client:
        (itself,) = (await client.get("/v1/services", {"type": "api"})).data["items"]
        assert (itself["id"], itself["status"], itself["ttlMs"]) == ("api-main", "healthy", 600)
        assert daemon.url == f"{itself['scheme']}://{itself['host']}:{itself['port']}"
        received = b""
        with trio.fail_after(20):
            async with await trio.open_tcp_stream(itself["host"], itself["port"]) as stream:
                await stream.send_all(b"GET /v1/stream?types=daemon.* HTTP/1.1\r\nHost: localhost\r\n\r\n")
                while received.count(b"event: daemon.heartbeat") < 3 or not received.endswith(b"\n\n\r\n"):
                    received += await stream.receive_some(65536)
        beats = [json.loads(line[6:]) for line in received.split(b"\n") if line.startswith(b"data: ")]
        assert [one["data"] for one in beats] == [{"servicesCount": 1, "healthyServices": 1}] * len(beats)
        await until(lambda: is_healthy(client), 5)


async def is_healthy(client):
    return (await client.get("/v1/services/api-main")).data["status"] == "healthy"
