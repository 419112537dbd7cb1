"""A server that costs as little as it can: any number of addresses of 127.0.0.0/8, one answer to everything.

Run: ``-m benchmarks.harness.answerer --hosts N [--certificate PEM]``; prints its URLs, as JSON, when it listens.
"""

import argparse
import asyncio
import signal
import ssl

import httptools
import orjson
import uvloop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def address(number: int) -> str:
    return f"127.0.{1 + number // 200}.{1 + number % 200}"


class Answerer(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._transport.write(ANSWER)


async def main(hosts: int, certificate: str | None) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    servers = [
        await loop.create_server(Answerer, address(n), 0, backlog=512, ssl=context) for n in range(hosts)
    ]
    scheme = "http" if context is None else "https"
    urls = ["{}://{}:{}/hook".format(scheme, *server.sockets[0].getsockname()) for server in servers]
    print(orjson.dumps(urls).decode(), flush=True)
    await stopped.wait()
    for server in servers:
        server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", type=int, required=True)
    parser.add_argument("--certificate")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(arguments.hosts, arguments.certificate))
