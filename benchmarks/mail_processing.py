"""What processing mails costs: mails a second in one process, memory, and what the event loop notices of large ones.

    python -m benchmarks.mail_processing [--seconds 5]

Mails have header blocks of 4 KB as real ones do; their texts are those of the labelled mails of the tests, repeated to
the size, as plain text and HTML side by side from 10 KB on.
"""

import argparse
import itertools
import time
import tomllib
from pathlib import Path

import trio

from benchmarks.mail_stores import HEADERS, say
from econeura_daemon.worker.processing import Rules, open_processors, process

CASES = Path(__file__).parents[1] / "tests" / "cases" / "emails.toml"
SIZES = (2, 10, 20)
LARGE = 20 * 1024 * 1024


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seconds", type=float, default=5.0, help="of each part")
    given = asked.parse_args()
    rules = Rules.load()
    process(mails(2)[0], rules)
    for size in SIZES:
        alone(size, rules, given.seconds)
    trio.run(in_processes, given.seconds)


def mails(kilobytes):
    """Return a mail of about this size for each case, without its header block."""
    made = []
    for case in tomllib.loads(CASES.read_text(encoding="utf-8"))["mail"]:
        text = case["body"] if "content_type" not in case else "Undelivered."
        head = (
            f"From: a@b.example\nSubject: {case['subject']}\nDate: Tue, 24 Nov 2026 10:00:00 +0100\n{HEADERS}"
        )
        if kilobytes < 10:
            text = "\n\n".join([text] * max(1, kilobytes * 1000 // len(text)))
            made.append(f"{head}Content-Type: text/plain; charset=utf-8\n\n{text}\n".encode())
            continue
        text = "\n\n".join([text] * max(1, kilobytes * 250 // len(text)))
        page = "".join(
            f"<tr><td style='font-size:12px'><p>{line}</p></td></tr>\n" for line in text.split("\n")
        )
        parts = (("plain", text), ("html", f"<html><body><table>{page}</table></body></html>"))
        body = "".join(f"--b\nContent-Type: text/{kind}; charset=utf-8\n\n{part}\n" for kind, part in parts)
        made.append(f"{head}Content-Type: multipart/alternative; boundary=b\n\n{body}--b--\n".encode())
    return made


def alone(kilobytes, rules, seconds):
    times = []
    began = time.perf_counter()
    for raw in itertools.cycle(mails(kilobytes)):
        started = time.perf_counter()
        process(raw, rules)
        times.append(time.perf_counter() - started)
        if time.perf_counter() - began > seconds:
            break
    times.sort()
    say(f"{kilobytes} KB of text: one process", len(times) / (time.perf_counter() - began), "mails/s")
    say(f"{kilobytes} KB of text: median", times[len(times) // 2] * 1000, "ms")
    say(f"{kilobytes} KB of text: p99", times[len(times) * 99 // 100] * 1000, "ms")


async def in_processes(seconds):
    started = trio.current_time()
    async with open_processors(processes=1) as processors:
        say("start", trio.current_time() - started, "s")
        say("memory of a process", memory(processors), "MB")
        count = 0
        with trio.move_on_after(seconds):
            for raw in itertools.cycle(mails(2)):
                await processors.process(raw)
                count += 1
        say("2 KB of text: through one process", count / seconds, "mails/s")
        lags = []
        large = (
            b"From: a@b.example\nContent-Type: text/html\n\n"
            + b"<p>Adjunto la factura de 500 EUR.</p>\n" * 60_000
        )
        large += b"x" * (LARGE - len(large))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look, lags)
            started = trio.current_time()
            for _ in range(5):
                await processors.process(large)
            say("20 MB, 2 MB of HTML in it", (trio.current_time() - started) / 5, "s")
            nursery.cancel_scope.cancel()
        lags.sort()
        say("meanwhile, the loop is late: p99", lags[len(lags) * 99 // 100] * 1000, "ms")
        say("meanwhile, the loop is late: at most", lags[-1] * 1000, "ms")
        say("memory of the process then", memory(processors), "MB")


async def look(lags):
    while True:
        before = trio.current_time()
        await trio.sleep(0.005)
        lags.append(trio.current_time() - before - 0.005)


def memory(processors):
    (pid,) = processors.statistics().pids
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
