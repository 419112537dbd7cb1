"""An mbox that MTAs append to, mail clients rewrite, and we take mails out of."""

import fcntl
import mailbox
import os
import socket
import subprocess
import sys

import pytest

from econeura_daemon.worker.mailstore import MailStoreUnavailableError, Outcome, locking, open_mail_store
from tests.support.mails import Stores, append, mail


@pytest.fixture
def there(tmp_path):
    return Stores("mbox", tmp_path)


def test_filing_takes_the_mail_out_of_the_inbox_and_keeps_every_byte_of_it(there):
    for n in range(5):
        there.put(mail(f"{n}@b", body=f"Hello {n}\n\nFrom me\n"))
    before = there.contents()
    store = open_mail_store(there.path)
    assert store.carry_out("1@b", "archive").outcome is Outcome.DONE
    assert store.carry_out("3@b", "categorize", "Facturación").outcome is Outcome.DONE
    assert store.carry_out("3@b", "categorize", "Facturación").outcome is Outcome.ALREADY
    assert store.read("3@b") == before[3]
    assert not store.scan()
    assert there.contents() == [before[0], before[2], before[4]]
    assert there.contents("Archive") == [before[1]]
    assert there.contents("Facturación") == [before[3]]
    again = open_mail_store(there.path)
    assert {n: again.find(f"{n}@b").folder for n in range(5)} == {
        0: "INBOX",
        1: "Archive",
        2: "INBOX",
        3: "Facturación",
        4: "INBOX",
    }
    assert again.carry_out("3@b", "archive").outcome is Outcome.DONE
    assert again.carry_out("4@b", "archive").outcome is Outcome.DONE
    again.scan(thorough=True)
    assert there.contents("Facturación") == []
    assert there.contents("Archive") == [before[1], before[3], before[4]]
    assert there.contents() == [before[0], before[2]]


def test_an_unquoted_from_in_a_body_is_no_mail_and_the_library_finds_the_same_ones(there):
    body = "Hello\n\nFrom now on, all is well\nFrom here: 12:30 in 2024 days\n\n From x Tue Nov 24 10:00:00 2026\n"
    with there.path.open("wb") as file:
        for n in range(3):
            file.write(b"From x@y Tue Nov 24 10:00:00 2026\n" + mail(f"{n}@b", body=body) + b"\n")
    store = open_mail_store(there.path)
    assert store.statistics().mails == 3
    assert store.read("1@b") == mail("1@b", body=body)


@pytest.mark.parametrize(
    "line",
    [
        b"From x@y Tue Nov 24 10:00:00 2026",
        b"From x@y  Tue Nov  4 10:00 2026",
        b"From - Tue Nov 24 10:00:00 2026",
        b"From MAILER-DAEMON Tue Nov 24 10:00:00 CET 2026",
        b"From x y Tue Nov 24 10:00:00 +0100 2026 remote from z",
        b"From Tue Nov 24 10:00:00 2026",
    ],
)
def test_every_way_to_write_the_line_before_a_mail_is_known(there, line):
    there.path.write_bytes(b"".join(line + b"\n" + mail(f"{n}@b") + b"\n" for n in range(2)))
    store = open_mail_store(there.path)
    assert store.statistics().mails == 2
    assert store.find("1@b").arrived_at.isoformat().startswith("2026-11-")


def test_line_ends_of_windows_are_kept(there):
    content = mail("a@b").replace(b"\n", b"\r\n")
    other = mail("c@d").replace(b"\n", b"\r\n")
    line = b"From x@y Tue Nov 24 10:00:00 2026\r\n"
    there.path.write_bytes(line + content + b"\r\n" + line + other)
    store = open_mail_store(there.path)
    assert store.read("a@b") == content
    assert store.read("c@d") == other
    store.carry_out("c@d", "archive")
    store.carry_out("a@b", "archive")
    store.scan(thorough=True)
    assert there.path.read_bytes() == b""
    assert (there.path.parent / "inbox.folders/Archive.mbox").read_bytes() == (
        line + other + b"\r\n" + line + content + b"\r\n"
    )


def test_what_is_appended_is_read_alone_and_what_was_edited_is_read_again(there):
    for n in range(3):
        there.put(mail(f"{n}@b"))
    store = open_mail_store(there.path)
    there.put(mail("3@b"))
    assert store.scan().added == ("3@b",)
    box = mailbox.mbox(there.path)  # a client reads one and deletes another
    box.lock()
    box[1].add_flag("R")
    message = box[1]
    message.add_flag("RO")
    box[1] = message
    box.remove(0)
    box.flush()
    box.close()
    assert store.scan().removed == ("0@b",)
    assert b"Status: RO" in store.read("1@b")
    assert b"<2@b>" in store.read("2@b")


def test_a_mail_whose_status_a_client_notes_meanwhile_is_taken_out_all_the_same(there):
    there.put(mail("a@b"))
    there.put(mail("c@d"))
    store = open_mail_store(there.path)
    store.carry_out("a@b", "archive")
    text = there.path.read_bytes().replace(b"Date:", b"Status: RO\nDate:")
    there.path.write_bytes(text)
    store.scan()
    assert [b"<c@d>" in content for content in there.contents()] == [True]
    assert len(there.contents("Archive")) == 1


def test_mails_without_an_id_keep_the_one_that_was_derived_when_they_are_filed(there):
    there.put(mail(None))
    there.put(mail("c@d"))
    store = open_mail_store(there.path)
    (derived,) = set(store.unprocessed(9)) - {"c@d"}
    store.carry_out(derived, "archive")
    assert open_mail_store(there.path).find(derived).folder == "Archive"
    assert len(there.contents()) == 1


def test_an_mbox_that_an_mta_removes_and_makes_anew_is_followed(there):
    there.put(mail("a@b"))
    store = open_mail_store(there.path)
    there.path.unlink()
    assert store.scan().removed == ("a@b",)
    there.put(mail("c@d"))
    assert store.scan().added == ("c@d",)


def test_a_lock_that_another_program_holds_is_waited_for(there, monkeypatch):
    monkeypatch.setattr(locking, "PATIENCE", 0.2)
    there.put(mail("a@b"))
    store = open_mail_store(there.path)
    with there.path.open("ab") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        with pytest.raises(MailStoreUnavailableError, match="locked by another program"):
            store.read("a@b")
    lock_file = there.path.with_name("inbox.lock")
    lock_file.write_text(f"{os.getpid()}\n{socket.gethostname()}\n")
    with pytest.raises(MailStoreUnavailableError, match=r"remove .*inbox\.lock"):
        store.read("a@b")
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    lock_file.write_text(f"{dead.stdout.decode().strip()}\n{socket.gethostname()}\n")
    store.carry_out("a@b", "archive")
    store.scan(thorough=True)
    assert there.contents() == []
    assert not lock_file.exists()


def test_a_lock_file_that_is_old_is_passed_over(there):
    there.put(mail("a@b"))
    lock_file = there.path.with_name("inbox.lock")
    lock_file.touch()
    os.utime(lock_file, (1_700_000_000, 1_700_000_000))
    assert open_mail_store(there.path).find("a@b") is not None


def test_several_workers_may_file_from_the_same_mailbox(there):
    for n in range(20):
        there.put(mail(f"{n}@b"))
    stores = [open_mail_store(there.path) for _ in range(2)]
    for n in range(20):
        stores[n % 2].carry_out(f"{n}@b", "archive")
        stores[(n + 1) % 2].carry_out(f"{n}@b", "archive")
    for store in stores:
        store.scan(thorough=True)
    assert there.contents() == []
    assert len(there.contents("Archive")) == len(set(there.contents("Archive"))) == 20


def test_the_last_mail_is_not_processed_while_it_may_still_be_written(there):
    append(there.path, mail("a@b"))
    append(there.path, mail("c@d"))
    store = open_mail_store(there.path)
    assert store.unprocessed(9) == ["a@b"]
    os.utime(there.path, (1_700_000_000, 1_700_000_000))
    store.scan()
    assert store.unprocessed(9) == ["a@b", "c@d"]
