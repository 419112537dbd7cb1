"""An instance of a service in a process of its own, that misbehaves as it is told.

    python mesh_instance.py PORT JOURNAL

PORT 0: a free one; it is written to standard output once the instance listens. What it answers follows from the
request alone (`answer_to`), so that an answer to another request is seen. ``POST /once/…``: the path becomes a line of
JOURNAL before anything else is done. ``POST /behave/HOW``: from now on it is `HOWS`; ``/health`` is well all the same.
``GET /stream``: a line every tenth of a second, for ``?seconds``. ``GET /large``: ``?bytes`` of them. Only the standard
library: it starts quickly, and answers in little time.
"""

import asyncio
import hashlib
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

HOWS = ("well", "slow", "garbage", "half", "error")
SLOW_SECONDS = 2.0
WATCHED_SECONDS = 0.5


def answer_to(method, target, body):
    """Return the body of a well answer: of a length between 64 bytes and 4 KiB."""
    digest = hashlib.sha256(f"{method} {target} ".encode() + body).hexdigest()
    return digest.encode() * (1 + int(digest[:2], 16) % 64)


class Instance:
    """What is the same for all connections."""

    def __init__(self, journal):
        self.how = "well"
        self.carried_out = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.gone = 0
        """Clients that left before they had their answer."""

    async def serve(self, reader, writer):
        with suppress(OSError, asyncio.IncompleteReadError):
            while await self.serve_one(reader, writer):
                pass
        writer.close()

    async def serve_one(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ")
        headers = dict(one.lower().split(": ", 1) for one in lines if one)
        path = urlsplit(target).path
        if path.startswith("/behave/"):
            self.how = path.removeprefix("/behave/")
            assert self.how in HOWS
            return reply(writer, 200, b"")
        if path == "/health":
            return reply(writer, 200, b"ok")
        if path == "/gone":
            return reply(writer, 200, str(self.gone).encode())
        if path == "/stream":
            return await self.stream(target, writer)
        if path == "/large":
            return await large(target, writer)
        body = await body_of(headers, reader)
        if path.startswith("/once/"):
            os.write(self.carried_out, path.encode() + b"\n")
        return await self.behave(writer, answer_to(method, target, body))

    async def behave(self, writer, answer):
        if self.how == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        elif self.how == "error":
            return reply(writer, 500, b"the database is down")
        elif self.how == "garbage":
            writer.write(b"\x16\x03\x01\x02 SSH-2.0-this is no HTTP\r\n\r\n")
            return False
        elif self.how == "half":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer))
            writer.write(answer[: len(answer) // 2])
            reset(writer)
            return False
        return reply(writer, 200, answer)

    async def stream(self, target, writer):
        seconds = float(parse_qs(urlsplit(target).query)["seconds"][0])
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for number in range(round(seconds * 10)):
            line = b"data: %d\n\n" % number
            writer.write(b"%x\r\n%b\r\n" % (len(line), line))
            try:
                await writer.drain()
            except OSError:
                self.gone += 1
                raise
            await asyncio.sleep(0.1)
        writer.write(b"0\r\n\r\n")
        return True


def reply(writer, status, body):
    writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
    return True


def reset(writer):
    """Have the peer see a reset, after what was written."""
    linger = b"\x01\x00\x00\x00" + b"\x00" * 4
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


async def body_of(headers, reader):
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    digest = hashlib.sha256()
    while size := int(await reader.readuntil(b"\r\n"), 16):
        digest.update((await reader.readexactly(size + 2))[:-2])
    await reader.readexactly(2)
    return digest.hexdigest().encode()


async def large(target, writer):
    left = int(parse_qs(urlsplit(target).query)["bytes"][0])
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
    while left:
        piece = min(left, 65536)
        writer.write(b"x" * piece)
        left -= piece
        await writer.drain()
    return True


def end_with(parent):
    """End when the test was killed."""
    while os.getppid() == parent:
        time.sleep(WATCHED_SECONDS)
    os._exit(1)


async def main():
    port, journal = sys.argv[1:]
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    server = await asyncio.start_server(Instance(journal).serve, "127.0.0.1", int(port), backlog=1024)
    os.write(1, b"%d\n" % server.sockets[0].getsockname()[1])
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
