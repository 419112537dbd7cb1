"""Archives mails and is killed before each call that changes the disk in turn, once for every call there is.

Run as a program with a kind of store and a folder of its own: after each kill mail comes in, the store is opened anew,
and every mail must be there exactly once. Prints how many places there were to be killed at.
"""

import os
import signal
import sys
from pathlib import Path

from econeura_daemon.worker.mailstore import open_mail_store
from tests.support.mails import Stores, mail

_CHANGING = {
    "open",
    "write",
    "pwrite",
    "ftruncate",
    "truncate",
    "fsync",
    "rename",
    "unlink",
    "mkdir",
    "flush",
    "close",
}
FILED = ("1@b", "2@b", "4@b")


def main(kind, root):
    places = 0
    while not killed_at(kind, Path(root) / str(places), places):
        places += 1
    sys.stdout.write(f"{places}\n")


def killed_at(kind, root, place):
    """Die at the ``place``-th change; return whether the work was done before that came."""
    root.mkdir()
    there = Stores(kind, root)
    for n in range(5):
        there.put(mail(f"{n}@b", body=f"{n}\n" * 200))
    before = sorted(there.contents())
    child = os.fork()
    if child == 0:
        store = open_mail_store(there.path)
        sys.setprofile(_Killer(place))
        for message_id in FILED:
            store.carry_out(message_id, "archive")
        store.scan(thorough=True)
        sys.setprofile(None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    there.put(mail("late@b"))
    store = open_mail_store(there.path)
    now = sorted(there.contents() + there.contents("Archive"))
    expected = sorted([*before, mail("late@b")])
    assert now == expected, (place, [text[60:110] for text in now])
    for n in (*range(5), "late"):
        assert f"<{n}@b>".encode() in store.read(f"{n}@b"), (place, n)
    for message_id in FILED:
        store.carry_out(message_id, "archive")
    assert store.statistics().processed == 3
    store.scan(thorough=True)
    assert sorted(there.contents("Archive")) == [before[1], before[2], before[4]], place
    assert sorted(there.contents()) == sorted([before[0], before[3], mail("late@b")]), place
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL, status
    return status == 0


class _Killer:
    def __init__(self, place):
        self._left = place

    def __call__(self, frame, event, function):
        if event != "c_call" or function.__name__ not in _CHANGING:
            return
        self._left -= 1
        if self._left >= 0:
            return
        if frame.f_code.co_name == "write_at":  # a kill may leave half of what was to be written
            view = frame.f_locals["view"]
            os.pwrite(frame.f_locals["descriptor"], view[: len(view) // 2], frame.f_locals["at"])
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
