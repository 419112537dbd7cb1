"""Reading one request, by our framer and by httptools: what the checks of ours cost (docs/decisions/0010).

python -m benchmarks.http_heads
"""

import itertools
import timeit

import httptools

from econeura_daemon.server import http1_heads
from econeura_daemon.server.framing import Framer

BODY = b"x" * 400
SHORT = b"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1:3001\r\nContent-Type: application/json\r\n"
LONG = SHORT + (
    b"Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nUser-Agent: python-httpx/0.28\r\n"
    b"Connection: keep-alive\r\nX-Tenant: org_4711\r\nAuthorization: Bearer eco_" + b"x" * 43 + b"\r\n"
)
ROUNDS, TIMES = 7, 5000


class _Collected:
    def __init__(self):
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self):
        self.headers = []
        self.body = []

    def on_url(self, url):
        self.url = url

    def on_header(self, name, value):
        self.headers.append((name.lower(), value))

    def on_headers_complete(self):
        self.method = self.parser.get_method()
        self.keeps_alive = self.parser.should_keep_alive()

    def on_body(self, body):
        self.body.append(body)


def main() -> None:
    for name, start in (("4 lines", SHORT), ("10 lines", LONG)):
        same = start + b"Content-Length: 400\r\n\r\n" + BODY
        numbers = itertools.count()
        collected, framer = _Collected(), Framer()

        def by_httptools(same=same, collected=collected):
            collected.parser.feed_data(same)

        def by_us(same=same, framer=framer):
            framer.feed(same)
            framer.next_head()
            framer.whole_body()

        def by_us_each_new(start=start, framer=framer, numbers=numbers):
            framer.feed(start + b"X-Request-ID: %d\r\nContent-Length: 400\r\n\r\n" % next(numbers) + BODY)
            framer.next_head()
            framer.whole_body()

        def by_us_no_memory(same=same):
            http1_heads.forget()
            by_us(same)

        for way, call in (
            ("httptools", by_httptools),
            ("ours", by_us),
            ("ours, a line of each differs", by_us_each_new),
            ("ours, nothing remembered", by_us_no_memory),
        ):
            best = min(timeit.repeat(call, number=TIMES, repeat=ROUNDS)) / TIMES
            print(f"{name}, {way}: {best * 1e6:.1f} us")


if __name__ == "__main__":
    main()
