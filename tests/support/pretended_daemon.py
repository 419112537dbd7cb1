"""A daemon in memory, as a registrant sees one. What was sent it does, whether or not the sender waits for it."""

import json
from collections.abc import Awaitable, Callable

import anyio
import attrs
import httpx


async def at_once() -> None:
    """Take no time, and let others have their turn."""
    await anyio.lowlevel.checkpoint()


@attrs.define
class Asked:
    """One request: when it came, and what it was."""

    at: float
    method: str
    path: str
    headers: httpx.Headers
    body: dict | None


class PretendedDaemon:
    """Holds instances; ``tasks`` is where it works, ``travel`` how long anything takes on its way."""

    def __init__(self, tasks, travel: Callable[[], Awaitable[None]] = at_once):
        self._tasks = tasks
        self._travel = travel
        self.instances: dict[str, dict] = {}
        self.asked: list[Asked] = []
        self.is_down = False
        self.refusal: httpx.Response | Exception | None = None
        """Answered in place of everything else."""
        self.hangs = False
        self.connections = 0
        self.working = 0

    def transport(self):
        return _Transport(self)

    def paths(self) -> list[str]:
        return [f"{one.method} {one.path}" for one in self.asked]

    async def idle(self):
        """Wait until all that was sent is done."""
        while self.working:
            await self._travel()

    def send(self, request: httpx.Request, answered: Callable[[httpx.Response | Exception], None]):
        self.working += 1
        self._tasks.start_soon(self._serve, request, answered)

    async def _serve(self, request, answered):
        await self._travel()
        answer = self._answer(request)
        await self._travel()
        self.working -= 1
        if not self.hangs:
            answered(answer)

    def _answer(self, request):
        body = json.loads(request.content) if request.content else None
        path = request.url.raw_path.decode()
        self.asked.append(Asked(anyio.current_time(), request.method, path, request.headers, body))
        if self.refusal is not None:
            return self.refusal
        words = path.split("/")[3:]
        if request.method == "POST" and not words:
            self.instances[body["id"]] = {"status": "healthy", **self.instances.get(body["id"], {})}
            return self._shown(body["id"])
        key = words[0].replace("%3A", ":")
        if key not in self.instances:
            return httpx.Response(404, json={"title": "Not found", "detail": "There is none"})
        match request.method, words[1:]:
            case "PUT", ["heartbeat"]:
                pass
            case "PUT", ["drain"]:
                self.instances[key]["status"] = "draining"
            case "DELETE", ["drain"]:
                self.instances[key]["status"] = "healthy"
            case "DELETE", []:
                del self.instances[key]
                return httpx.Response(200, json={"data": {"id": key}})
            case _:
                raise AssertionError(path)
        return self._shown(key)

    def _shown(self, key):
        return httpx.Response(200, json={"data": {"id": key, **self.instances[key]}})


class _Transport(httpx.AsyncBaseTransport):
    def __init__(self, daemon):
        self._daemon = daemon
        daemon.connections += 1

    async def handle_async_request(self, request):
        daemon = self._daemon
        await at_once()
        if daemon.is_down:
            raise httpx.ConnectError("connection refused")
        come = anyio.Event()
        answers = []

        def answered(answer):
            answers.append(answer)
            come.set()

        daemon.send(request, answered)
        await come.wait()
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers[0]

    async def aclose(self):
        self._daemon.connections -= 1
        await at_once()
