"""A Maildir as mail clients and MTAs leave it, and change it while it is looked at."""

import itertools
import os
import subprocess
import sys
import threading

import pytest

from econeura_daemon.worker.mailstore import MailUnreadableError, Outcome, open_mail_store
from econeura_daemon.worker.mailstore.directories import RESTLESS, Listing
from econeura_daemon.worker.mailstore.folder_names import from_utf7, to_utf7
from tests.support.mails import Stores, deliver, mail, make_maildir


@pytest.fixture
def there(tmp_path):
    return Stores("maildir", tmp_path)


def test_a_mail_that_a_client_reads_and_flags_stays_the_same_mail(there):
    path = deliver(there.path, mail("a@b"))
    store = open_mail_store(there.path)
    path = path.rename(there.path / "cur" / f"{path.name}:2,")
    assert b"Hello" in store.read("a@b")
    path = path.rename(there.path / "cur" / f"{path.name}S")
    assert not store.scan()
    assert b"Hello" in store.read("a@b")
    path.rename(path.with_name(f"{path.name}T"))
    assert store.carry_out("a@b", "archive").outcome is Outcome.DONE
    assert len(there.contents("Archive")) == 1
    assert store.statistics().mails == 1


def test_mails_in_subfolders_are_found_and_left_where_people_put_them(there):
    clients = make_maildir(there.path / ".Clientes.A&APE-o")
    deliver(clients, mail("old@b"), flags="S")
    deliver(there.path, mail("new@b"))
    (there.path / ".not a folder").mkdir()
    store = open_mail_store(there.path)
    assert store.find("old@b").folder == "Clientes.Año"
    assert store.statistics().folders == 2
    assert store.unprocessed(9) == ["new@b"]


def test_a_folder_that_is_renamed_or_removed_by_a_client_is_followed(there):
    folder = make_maildir(there.path / ".Old")
    deliver(folder, mail("a@b"))
    store = open_mail_store(there.path)
    folder.rename(there.path / ".New")
    assert not store.scan()
    assert store.find("a@b").folder == "New"
    for path in sorted((there.path / ".New").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (there.path / ".New").rmdir()
    assert store.scan().removed == ("a@b",)


def test_filing_keeps_whether_it_was_read_but_no_keywords_of_the_other_folder(there):
    deliver(there.path, mail("read@b"), flags="FSab")
    deliver(there.path, mail("unread@b"))
    store = open_mail_store(there.path)
    for message_id in ("read@b", "unread@b"):
        assert store.carry_out(message_id, "categorize", "Facturación").folder == "Facturación"
        assert store.find(message_id).folder == "Facturación"
    folder = there.path / ".Facturaci&APM-n"
    assert [path.name.partition(":")[2] for path in (folder / "cur").iterdir()] == ["2,FS"]
    assert len(list((folder / "new").iterdir())) == 1
    assert (folder / "maildirfolder").exists()
    assert (folder / "tmp").is_dir()
    assert open_mail_store(there.path).find("read@b").folder == "Facturación"


def test_filing_again_changes_nothing_and_another_folder_is_possible(there):
    deliver(there.path, mail("a@b"))
    store = open_mail_store(there.path)
    assert [store.carry_out("a@b", "archive").outcome for _ in range(2)] == [Outcome.DONE, Outcome.ALREADY]
    assert open_mail_store(there.path).carry_out("a@b", "archive").outcome is Outcome.ALREADY
    assert store.carry_out("a@b", "categorize", "Bills").outcome is Outcome.DONE
    assert there.contents("Archive") == there.contents() == []
    assert there.contents("Bills") == [mail("a@b")]


def test_a_name_that_the_folder_has_already_is_not_overwritten(there):
    first = deliver(there.path, mail("a@b"))
    store = open_mail_store(there.path)
    store.carry_out("a@b", "archive")
    first.write_bytes(mail("c@d"))
    store.scan(thorough=True)
    store.carry_out("c@d", "archive")
    assert sorted(there.contents("Archive")) == [mail("a@b"), mail("c@d")]


def test_every_copy_that_came_in_is_filed_and_the_one_that_was_sent_is_not(there):
    sent = make_maildir(there.path / ".Sent")
    deliver(sent, mail("a@b"), flags="S")
    for _ in range(2):
        deliver(there.path, mail("a@b"))
    store = open_mail_store(there.path)
    assert store.carry_out("a@b", "archive").outcome is Outcome.DONE
    assert len(there.contents("Archive")) == 2
    assert len(there.contents("Sent")) == 1


def test_drafts_and_deleted_mails_are_not_processed(there):
    for flags in ("", "S", "T", "ST", "D"):
        deliver(there.path, mail(f"{flags}@b"), flags=flags)
    store = open_mail_store(there.path)
    assert sorted(store.unprocessed(9)) == ["@b", "S@b"]


def test_what_is_made_has_the_owner_and_the_mode_of_the_maildir(there):
    if os.geteuid() == 0:
        os.chown(there.path, 12345, 12345)
    there.path.chmod(0o750)
    owner = there.path.stat()
    deliver(there.path, mail("a@b"))
    open_mail_store(there.path).carry_out("a@b", "archive")
    for name in ("", "tmp", "new", "cur"):
        made = (there.path / ".Archive" / name).stat()
        assert (made.st_uid, made.st_gid, made.st_mode) == (owner.st_uid, owner.st_gid, owner.st_mode)
    assert (there.path / "econeura-marks").stat().st_uid == owner.st_uid


def test_a_mail_that_may_not_be_read_is_counted_and_said(there):
    if os.geteuid() == 0:
        broken = there.path / "new" / "1.host"
        broken.mkdir()  # root may read everything: a folder is no mail either
    else:
        broken = deliver(there.path, mail("a@b"))
        broken.chmod(0)
    path = deliver(there.path, mail("c@d"))
    store = open_mail_store(there.path)
    assert (store.statistics().mails, store.statistics().unreadable) == (1, 1)
    path.unlink()
    path.mkdir()
    with pytest.raises(MailUnreadableError, match="cannot be read"):
        store.read("c@d")


@pytest.mark.parametrize("name", ["Año", "a&b", "日本", "plain", "&", "a/b", "😀 x"])
def test_folder_names_are_written_as_imap_servers_do(name):
    assert to_utf7(name).isascii()
    assert from_utf7(to_utf7(name)) == name


def test_a_folder_name_that_is_not_well_written_stays():
    assert from_utf7("&AAA") == "&AAA"
    assert from_utf7("a&A-b") == "a&A-b"


def test_a_directory_is_listed_again_while_two_changes_may_bear_the_same_time(tmp_path):
    now = 100.0
    listing = Listing(tmp_path, lambda: now)
    os.utime(tmp_path, ns=(1, 1))
    assert listing.has_changed()
    now += RESTLESS - 0.1
    assert listing.has_changed()
    now += 0.1
    assert not listing.has_changed()
    os.utime(tmp_path, ns=(2, 2))
    assert listing.has_changed()


FLAGGING = """
import itertools, os, sys
os.chdir(sys.argv[1])
for flags in itertools.cycle(["S", "FRS", "", "F"]):
    for name in os.listdir():
        os.rename(name, name.partition(":")[0] + ":2," + flags)
"""


@pytest.mark.rounds(short=20, soak=3000)
def test_no_mail_seems_to_go_while_a_client_renames_them_all(there, rounds):
    for n in range(2000):
        deliver(there.path, mail(f"{n}@b"), flags="")
    store = open_mail_store(there.path)
    with subprocess.Popen([sys.executable, "-c", FLAGGING, there.path / "cur"]) as client:
        try:
            gone = [store.scan().removed for _ in range(rounds)]
        finally:
            client.kill()
    assert not any(gone)


@pytest.mark.rounds(short=2, soak=200)
def test_nothing_is_lost_or_doubled_while_others_deliver_and_read(tmp_path, rounds):
    """Threads deliver by the rules and a client flags and moves, while the store scans, reads and archives."""
    for turn in range(rounds):
        (tmp_path / str(turn)).mkdir()
        one_busy_maildir(Stores("maildir", tmp_path / str(turn)), count=150)


def one_busy_maildir(there, *, count):
    store = open_mail_store(there.path)
    beginning = threading.Barrier(4)
    done = threading.Event()
    known = set()

    def deliver_some(begin):
        beginning.wait()
        for n in range(begin, count, 2):
            deliver(there.path, mail(f"{n}@b"))

    def read_as_a_client_does():
        beginning.wait()
        for flags in itertools.cycle(["", "S", "RS", "S"]):
            for path in [*(there.path / "new").iterdir(), *(there.path / "cur").iterdir()]:
                try:
                    path.rename(there.path / "cur" / f"{path.name.partition(':')[0]}:2,{flags}")
                except FileNotFoundError:
                    continue
            if done.is_set():
                return

    threads = [threading.Thread(target=deliver_some, args=(begin,)) for begin in range(2)]
    threads.append(threading.Thread(target=read_as_a_client_does))
    for thread in threads:
        thread.start()
    beginning.wait()
    try:
        while len(known) < count:
            changes = store.scan()
            known.update(changes.added)
            for message_id in changes.added:
                assert f"<{message_id}>".encode() in store.read(message_id)
                if int(message_id.partition("@")[0]) % 3 == 0:
                    store.carry_out(message_id, "archive")
    finally:
        done.set()
        for thread in threads:
            thread.join()
    there_now = [*there.contents(), *there.contents("Archive")]
    assert len(there_now) == len(set(there_now)) == count
    assert len(there.contents("Archive")) == count // 3
    store.scan(thorough=True)
    assert store.statistics().mails == count
    assert store.statistics().duplicates == 0
