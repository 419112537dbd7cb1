"""A workers service on a real socket that behaves as the test says, and keeps what it was asked."""

import json
from contextlib import asynccontextmanager

import attrs
import h11
import trio

RESULT = {
    "processed": True,
    "action": "categorize",
    "confidence": 0.9,
    "metadata": {
        "category": "support",
        "sentiment": "neutral",
        "urgency": "low",
        "language": "es",
        "entities": {},
    },
    "processingTime": 3,
}


@attrs.frozen
class Asked:
    """One request, as it arrived."""

    method: str
    path: str
    headers: dict
    body: object


def ok(data):
    """What a worker answers when it did what was asked."""
    return 200, {"success": True, "data": data, "timestamp": "2026-11-24T02:00:00.000Z"}


async def well(asked):
    """Do what every worker does."""
    if asked.path == "/emails/process":
        return ok({"result": RESULT})
    if asked.path == "/emails/process/bulk":
        return ok({"results": [bulk_item(one) for one in asked.body["messageIds"]]})
    if asked.path.startswith("/cron/jobs/"):
        job_id, _, action = asked.path.removeprefix("/cron/jobs/").partition("/")
        return ok({"job": {"id": job_id, "enabled": action != "disable"}})
    return 404, {"title": "Not found", "detail": f"There is no route {asked.path}"}


def bulk_item(message_id):
    return {"messageId": message_id, "success": True, "result": RESULT}


@attrs.define(eq=False)
class ScriptedWorkers:
    """Answers with what ``answer`` returns: (status, JSON or bytes), or bytes that are the whole answer."""

    port: int
    answer: object = well
    asked: list = attrs.field(factory=list)
    under_way: int = 0
    most: int = 0
    """Of requests that were under way at once."""

    async def serve(self, stream):
        http = h11.Connection(h11.SERVER)
        async with stream:
            try:
                while await self._exchange(http, stream):
                    http.start_next_cycle()
            except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
                return

    async def _exchange(self, http, stream):
        request, body = None, b""
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await stream.receive_some(65536))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                break
        if request is None:
            return False
        headers = {name.decode(): value.decode() for name, value in request.headers}
        asked = Asked(
            request.method.decode(), request.target.decode(), headers, json.loads(body) if body else None
        )
        self.asked.append(asked)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            answer = await self.answer(asked)
        finally:
            self.under_way -= 1
        if isinstance(answer, bytes):
            await stream.send_all(answer)
            return False
        status, content = answer
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        head = h11.Response(status_code=status, headers=[("content-length", str(len(raw)))])
        parts = [http.send(head), http.send(h11.Data(data=raw)), http.send(h11.EndOfMessage())]
        await stream.send_all(b"".join(parts))
        return http.our_state is h11.DONE and http.their_state is h11.DONE


@asynccontextmanager
async def open_workers_service(answer=well):
    """Serve for the length of the block."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        workers = ScriptedWorkers(listener.socket.getsockname()[1], answer)
        nursery.start_soon(trio.serve_listeners, workers.serve, [listener])
        yield workers
        nursery.cancel_scope.cancel()


async def register(world, workers, service_id="w-1", **more):
    """Register a scripted service with the daemon of ``world``, healthy by its lease."""
    body = {
        "id": service_id,
        "type": "workers",
        "host": "127.0.0.1",
        "port": workers.port,
        "ttlMs": 3_600_000,
    }
    answer = await world.post("/v1/services", {**body, **more})
    assert answer.status_code == 201, answer.text
