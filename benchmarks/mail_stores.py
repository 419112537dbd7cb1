"""What a mail store costs: reading which mails there are, looking for new ones, finding, reading, filing.

    python -m benchmarks.mail_stores [--mails 100000] [--kind maildir] [--folder DIR]

Mails have header blocks as long as real ones (DKIM, ARC, Received: about 4 KB) and bodies of 6 KB. Everything is in the
page cache: a cold disk adds a random read for each mail of a Maildir.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

from econeura_daemon.worker.mailstore import open_mail_store
from tests.support.mails import LateClock, Stores, mail

HEADERS = "".join(
    f"Received: from mx{n}.example.net (mx{n}.example.net [192.0.2.{n}]) by x\n" for n in range(12)
)
HEADERS += "DKIM-Signature: v=1; a=rsa-sha256; b=" + "".join("x" * 70 + "\n\t" for _ in range(40)) + "x\n"
BODY = ("All is well here, and the invoice of 120.50 EUR is attached.\n" * 100)[:6000] + "\n"


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--mails", type=int, default=10_000)
    asked.add_argument("--kind", choices=["maildir", "mbox", "eml"])
    asked.add_argument("--filed", type=int, default=1000, help="mails that are put into the archive")
    asked.add_argument("--folder", help="where the stores are made")
    given = asked.parse_args()
    for kind in [given.kind] if given.kind else ["maildir", "mbox", "eml"]:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            measure(kind, Path(folder), given.mails, given.filed)


def measure(kind, folder, count, filed):
    there = Stores(kind, folder)
    for n in range(count):
        there.put(mail(f"{n}.{'x' * 40}@mail.example.com", extra=HEADERS, body=BODY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    store = timed(f"{kind}: open, {count} mails", lambda: open_mail_store(there.path, clock=LateClock()))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    say(f"{kind}: memory", (after - before) / 1024, "MB")
    timed(f"{kind}: scan, just opened", store.scan)
    time.sleep(2.1)
    store.scan()
    timed(f"{kind}: scan, nothing new", lambda: [store.scan() for _ in range(100)], 100)
    there.put(mail("late@b", extra=HEADERS))
    timed(f"{kind}: scan, one new", store.scan)
    timed(f"{kind}: thorough scan", lambda: store.scan(thorough=True))
    found = timed(f"{kind}: {filed} unprocessed", lambda: store.unprocessed(filed))
    timed(f"{kind}: find", lambda: [store.find(message_id) for message_id in found], filed)
    timed(f"{kind}: read", lambda: [store.read(message_id) for message_id in found], filed)

    def archive():
        for message_id in found:
            store.carry_out(message_id, "archive")
        store.scan(thorough=True)

    timed(f"{kind}: archive", archive, filed)


def timed(what, work, count=1):
    started = time.perf_counter()
    result = work()
    took = (time.perf_counter() - started) / count
    if took >= 0.1:
        say(what, took, "s")
    else:
        say(what, took * 1e6, "µs")
    return result


def say(what, number, unit):
    print(f"{what:45} {number:10.2f} {unit}", flush=True)


if __name__ == "__main__":
    main()
