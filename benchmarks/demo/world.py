"""A daemon, two workers services over one Maildir, a receiver, a follower of the stream; in a folder of their own."""

import json
import secrets
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import attrs
import trio

from benchmarks.demo.lines import Lines
from benchmarks.demo.mails import write_maildir
from benchmarks.demo.programs import Program, begun, running, served
from econeura_daemon.webhooks.signing import new_secret

MAILS = 200
WATCHED = "workers.*,email.*,cron.*,service.status_changed"

_DAEMON = """
[daemon]
state_dir = "{state}"
[http]
bind = ["127.0.0.1:0"]
[webhooks]
secret = "{secret}"
allowed_networks = ["127.0.0.0/8"]
[discovery]
heartbeat_interval_ms = 1000
[mesh.workers]
circuit_breaker_open_ms = 3000
"""
_WORKER = """
[webhooks]
secret = "{secret}"
[worker]
daemon_url = "{daemon}"
instance_id = "{name}"
state_dir = "{state}"
mail = "{mail}"
processes = 1
[worker.jobs]
health_check = "@every 10s"
"""


@attrs.define
class World:
    """Everything that runs."""

    folder: Path
    secret: str
    mail: Path
    ids: list[str]
    daemon: Program
    workers: dict[str, Program]
    received: Lines
    """What came to the receiver."""
    streamed: Lines
    """What the stream told."""
    _stack: AsyncExitStack

    async def call(
        self, method: str, path: str, document: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Ask the daemon; return the status, and the document."""
        raw = document if isinstance(document, bytes | None) else json.dumps(document).encode()
        sent = {"Content-Type": "application/json"} if raw is not None else {}
        request = Request(self.daemon.url + path, raw, {**sent, **(headers or {})}, method=method)
        return await trio.to_thread.run_sync(partial(_ask, request), abandon_on_cancel=True)

    async def begin_workers(self, *names: str) -> None:
        """Start workers services, for the first time or again over what they left."""
        for name in names:
            (self.folder / name / "ready.json").unlink(missing_ok=True)
            arguments = ("worker", "--config", str(self.folder / f"{name}.toml"))
            self.workers[name] = await self._stack.enter_async_context(running(name, self.folder, *arguments))
        for name in names:
            await served(self.workers[name], self.folder / name)


def _ask(request: Request) -> tuple[int, Any]:
    try:
        with urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


@asynccontextmanager
async def open_world() -> AsyncGenerator[World]:
    """Have all of it for the length of the block, on free ports; leave nothing behind."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="econeura-demo-")))
        mail, secret = folder / "mail", new_secret(secrets.token_bytes)
        ids = write_maildir(mail, MAILS)
        config = folder / "daemon.toml"
        config.write_text(_DAEMON.format(state=folder / "daemon", secret=secret))
        daemon = await stack.enter_async_context(running("daemon", folder, "serve", "--config", str(config)))
        await served(daemon, folder / "daemon")
        about = ("-o", "jsonl", "--url", daemon.url)
        listen = ("webhooks", "listen", "--port", "0", "--subscribe", WATCHED, *about)
        receiver = await stack.enter_async_context(running("receiver", folder, *listen))
        tail = ("events", "tail", "--types", WATCHED, "--after", "0", *about)
        await stack.enter_async_context(running("stream", folder, *tail))
        await begun(receiver, lambda: "subscribed" in receiver.log.read_text())
        world = World(
            folder=folder, secret=secret, mail=mail, ids=ids, daemon=daemon, workers={},
            received=Lines(folder / "receiver.out"), streamed=Lines(folder / "stream.out"), stack=stack,
        )  # fmt: skip
        names = ("workers-1", "workers-2")
        for name in names:
            settings = _WORKER.format(
                name=name, state=folder / name, secret=secret, daemon=daemon.url, mail=mail
            )
            (folder / f"{name}.toml").write_text(settings)
        await world.begin_workers(*names)
        yield world
