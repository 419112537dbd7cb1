"""The registries under test, each with the requests that mean the same to both.

The daemon: an instance is a registration with a lease. etcd, through its JSON gateway: a lease of the instance's own,
and a key below ``services/TYPE/`` that is attached to it, as its users do service discovery
(https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/).
"""

import base64
import json
import subprocess
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import orjson

from benchmarks.harness.client import Client
from benchmarks.harness.processes import Cores, accepts, free_port, running, wait_for

TTL_SECONDS = 600
"""Leases that run out in the middle would be another measurement."""
PER_TYPE = 100
"""Instances of one service."""
WATCHED = "watched"
"""The service that is watched; it has `WATCHED_INSTANCES`."""
WATCHED_INSTANCES = 10
MANY = 4000
"""Connections that the daemon lets one address have; its default is half a thousand."""
CONFIGURATION = f"""
[daemon]
state_dir = "{{directory}}"
[http]
bind = ["127.0.0.1:0"]
max_connections = {MANY}
max_connections_per_peer = {MANY}
[storage]
synchronous = "full"
"""


def type_of(number: int) -> str:
    return f"service-{number // PER_TYPE}"


def said_of(number: int, type_: str, turn: int = 0) -> dict[str, Any]:
    """What is known of an instance; some 250 bytes."""
    return {
        "id": f"{type_}.{number}",
        "type": type_,
        "host": f"10.{number // 65536}.{number // 256 % 256}.{number % 256}",
        "port": 8080,
        "version": "1.4.2",
        "tags": ["eu-west", "canary" if number % 20 == 0 else "stable"],
        "metadata": {"zone": f"z{number % 3}", "build": "9f3c2ab", "turn": turn},
        "ttlMs": TTL_SECONDS * 1000,
    }


@attrs.define
class Ours:
    """The daemon."""

    client: Client
    process: subprocess.Popen[bytes]
    start_seconds: float

    title = "ours"

    def register(self, number: int, type_: str, turn: int = 0) -> list[bytes]:
        return [self.client.prepare("POST", "/v1/services", said_of(number, type_, turn))]

    change = register
    """Another value for one that is there."""

    def renew(self, number: int, type_: str) -> bytes:
        return self.client.prepare("PUT", f"/v1/services/{type_}.{number}/heartbeat")

    def deregister(self, number: int, type_: str) -> list[bytes]:
        return [self.client.prepare("DELETE", f"/v1/services/{type_}.{number}")]

    def watch(self, index: str | None) -> bytes:
        """Ask for the watched service's instances, once they are others than at ``index``."""
        after = "" if index is None else f"&index={index}&wait=10m"
        return self.client.prepare("GET", f"/v1/services?type={WATCHED}{after}")

    def whole(self, type_: str | None = None) -> bytes:
        return self.client.prepare("GET", "/v1/services" + (f"?type={type_}" if type_ else ""))


@attrs.define
class Etcd:
    """etcd 3.4."""

    client: Client
    process: subprocess.Popen[bytes]
    start_seconds: float

    title = "etcd 3.4"

    def register(self, number: int, type_: str, turn: int = 0) -> list[bytes]:
        grant = {"TTL": TTL_SECONDS, "ID": lease_of(number, type_)}
        return [self.client.prepare("POST", "/v3/lease/grant", grant), *self.change(number, type_, turn)]

    def change(self, number: int, type_: str, turn: int = 0) -> list[bytes]:
        body = {
            "key": _base64(f"services/{type_}/{number}"),
            "value": _base64(json.dumps(said_of(number, type_, turn), separators=(",", ":"))),
            "lease": lease_of(number, type_),
        }
        return [self.client.prepare("POST", "/v3/kv/put", body)]

    def renew(self, number: int, type_: str) -> bytes:
        return self.client.prepare("POST", "/v3/lease/keepalive", {"ID": lease_of(number, type_)})

    def deregister(self, number: int, type_: str) -> list[bytes]:
        return [self.client.prepare("POST", "/v3/lease/revoke", {"ID": lease_of(number, type_)})]

    def watch(self, _index: str | None) -> bytes:
        request = {"create_request": prefix_of(WATCHED)}
        return self.client.prepare("POST", "/v3/watch", request)

    def whole(self, type_: str | None = None) -> bytes:
        return self.client.prepare("POST", "/v3/kv/range", prefix_of(type_))


Registry = Ours | Etcd


def prefix_of(type_: str | None) -> dict[str, str]:
    """The range of one service's keys, or of all services'."""
    prefix = f"services/{type_}/" if type_ else "services/"
    return {"key": _base64(prefix), "range_end": _base64(prefix[:-1] + chr(ord("/") + 1))}


def lease_of(number: int, type_: str) -> int:
    return number + (1 if type_ != WATCHED else 1_000_001)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@asynccontextmanager
async def open_ours(folder: Path, cores: Cores) -> AsyncGenerator[Ours]:
    config, ready = folder / "econeura.toml", folder / "ready.json"
    config.write_text(CONFIGURATION.format(directory=folder))
    ready.unlink(missing_ok=True)
    began = time.monotonic()
    with running(
        ["-m", "econeura_daemon", "serve", "--config", str(config)], folder / "log", cores.system
    ) as process:
        wait_for(ready.exists, process, folder / "log")
        port = urlsplit(json.loads(ready.read_text())["urls"][0]).port
        client = Client("127.0.0.1", port)
        yield Ours(client, process, time.monotonic() - began)
        client.close()


@asynccontextmanager
async def open_etcd(folder: Path, cores: Cores, program: str) -> AsyncGenerator[Etcd]:
    port, peers = free_port(), f"http://127.0.0.1:{free_port()}"
    here = f"http://127.0.0.1:{port}"
    arguments = [
        "--data-dir", str(folder / "data"), "--listen-client-urls", here, "--advertise-client-urls", here,
        "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", f"default={peers}",
        "--log-level", "warn",
    ]  # fmt: skip
    began = time.monotonic()
    with running(arguments, folder / "log", cores.system, program) as process:
        wait_for(lambda: accepts(port), process, folder / "log")
        client = Client("127.0.0.1", port)
        while b'"true"' not in (await client.send(client.prepare("GET", "/health")))[1]:
            pass
        yield Etcd(client, process, time.monotonic() - began)
        client.close()


async def send_all(registry: Registry, requests: Sequence[bytes]) -> None:
    """Send one after the other; each must be answered 2xx."""
    for request in requests:
        status, body = await registry.client.send(request)
        if not 200 <= status < 300:
            raise RuntimeError(f"{registry.title} answered {status}: {body[:300]!r} to {request[:80]!r}")


async def count(registry: Registry) -> int:
    """How many instances the registry shows, but for its own."""
    _, body = await registry.client.send(registry.whole())
    document = orjson.loads(body)
    if isinstance(registry, Ours):
        return sum(item["type"] != "api" for item in document["data"]["items"])
    return int(document.get("count", 0))
