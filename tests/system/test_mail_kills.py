"""Workers that are killed while they put mails elsewhere: none is lost, and none is there twice."""

import os
import random
import signal
import subprocess
import sys
import threading

import pytest

from econeura_daemon.worker.mailstore import MailServer, Outcome, open_mail_store
from tests.support.mails import LateClock, Stores, mail
from tests.support.smtp_server import mail_host

KINDS = ["maildir", "mbox", "eml"]

ARCHIVING = """
import sys
from econeura_daemon.worker.mailstore import open_mail_store
from tests.support.mails import LateClock
store = open_mail_store(sys.argv[1], clock=LateClock())
print("ready", flush=True)
while True:
    store.scan()
    for message_id in store.unprocessed(20):
        store.carry_out(message_id, "archive" if int(message_id.partition("@")[0]) % 3 else "categorize", "Bills")
"""


DYING = """
import os, sys
from econeura_daemon.worker.mailstore import open_mail_store
from tests.support.mails import LateClock
open_mail_store(sys.argv[1], clock=LateClock()).act("a@b", *sys.argv[2:])
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("how", "folder"), [(["archive"], "Archive"), (["categorize", "Bills"], "Bills")])
def test_a_mail_whose_worker_dies_after_filing_and_before_it_is_noted_is_still_to_be_processed(
    kind, how, folder, tmp_path
):
    there = Stores(kind, tmp_path)
    there.put(mail("a@b"))
    died = subprocess.run([sys.executable, "-c", DYING, str(there.path), *how], timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL
    store = open_mail_store(there.path, clock=LateClock())
    assert store.find("a@b").folder == folder
    assert store.unprocessed(9) == ["a@b"]
    assert store.act("a@b", *how).outcome is Outcome.ALREADY
    store.note_processed("<a@b>")
    assert store.unprocessed(9) == open_mail_store(there.path, clock=LateClock()).unprocessed(9) == []
    assert there.contents(folder) == [mail("a@b")]


def test_what_a_person_moves_on_after_a_worker_died_stays_where_it_is_put(tmp_path):
    there = Stores("maildir", tmp_path)
    there.put(mail("a@b"))
    store = open_mail_store(there.path)
    store.act("a@b", "archive")
    mine = there.path / ".Mine"
    (there.path / ".Archive").rename(mine)
    again = open_mail_store(there.path)
    assert again.unprocessed(9) == ["a@b"]
    done = again.act("a@b", "archive")
    assert (done.outcome, done.folder) == (Outcome.ALREADY, "Mine")
    assert len(there.contents("Mine")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_before_any_change_of_the_disk_loses_and_doubles_nothing(kind, tmp_path):
    """Every place is tried; who adds one to the code adds it to this test."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.support.mail_crashes", kind, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert int(run.stdout) >= 30


@pytest.mark.slow
@pytest.mark.rounds(short=3, soak=300)
@pytest.mark.parametrize("kind", KINDS)
def test_kills_at_any_moment_while_mail_comes_in_lose_and_double_nothing(kind, tmp_path, rounds):
    there = Stores(kind, tmp_path)
    rng = random.Random(rounds)
    ids = []
    ended = threading.Event()

    def deliver():
        while not ended.wait(0.002) and len(ids) < 3000:
            there.put(mail(f"{len(ids)}@b", body="x\n" * (len(ids) % 50)))
            ids.append(f"{len(ids)}@b")

    delivering = threading.Thread(target=deliver)
    delivering.start()
    try:
        for _ in range(rounds):
            with subprocess.Popen(
                [sys.executable, "-c", ARCHIVING, there.path], stdout=subprocess.PIPE
            ) as worker:
                assert worker.stdout.readline() == b"ready\n"
                ended.wait(rng.uniform(0, 0.4))
                os.kill(worker.pid, signal.SIGKILL)
    finally:
        ended.set()
        delivering.join()
    store = open_mail_store(there.path, clock=LateClock())
    filed = there.contents("Archive") + there.contents("Bills")
    now = there.contents() + filed
    assert len(now) == len(set(now)) == len(ids)
    assert len(filed) > 0
    for message_id in ids:
        assert f"<{message_id}>".encode() in store.read(message_id)
    for message_id in store.unprocessed(len(ids)):
        store.carry_out(message_id, "archive")
    store.scan(thorough=True)
    now = there.contents("Archive") + there.contents("Bills")
    assert len(now) == len(set(now)) == len(ids)


FORWARDING = """
import sys
from econeura_daemon.worker.mailstore import MailServer, open_mail_store
server = MailServer(host="127.0.0.1", port=int(sys.argv[2]), sender="w@example.org", security="none")
open_mail_store(sys.argv[1], server=server).carry_out("a@b", "forward", forward_to="x@example.com")
"""


def test_a_worker_that_is_killed_while_it_forwards_leaves_it_unknown(tmp_path):
    there = Stores("maildir", tmp_path)
    there.put(mail("a@b"))
    killed = threading.Event()

    def too_late():
        killed.wait(30)
        return b"250 taken"

    with mail_host({".": too_late}) as host:
        server = MailServer(host="127.0.0.1", port=host.port, sender="w@example.org", security="none")
        with subprocess.Popen([sys.executable, "-c", FORWARDING, there.path, str(host.port)]) as worker:
            assert host.arrived.wait(30)
            assert forward(there, server).outcome is Outcome.RETRY
            worker.kill()
        killed.set()
        assert forward(there, server).outcome is Outcome.UNKNOWN
        assert forward(there, server).outcome is Outcome.UNKNOWN
    assert len(host.letters) == 1


def forward(there, server):
    return open_mail_store(there.path, server=server).carry_out("a@b", "forward", forward_to="x@example.com")
