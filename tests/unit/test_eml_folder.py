"""A folder of .eml files as other programs drop them."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from econeura_daemon.worker.mailstore import Outcome, open_mail_store
from tests.support.mails import Stores, mail


class SetClock:
    def __init__(self):
        self.ahead = timedelta()

    def now(self):
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def there(tmp_path):
    return Stores("eml", tmp_path)


def test_files_in_nested_folders_are_mails_and_others_are_not(there):
    deep = there.path / "2026" / "11"
    deep.mkdir(parents=True)
    (deep / "a.EML").write_bytes(mail("a@b"))
    (there.path / "notes.txt").write_bytes(mail("no@b"))
    (there.path / ".hidden.eml").write_bytes(mail("no@c"))
    (there.path / ".git").mkdir()
    (there.path / ".git" / "x.eml").write_bytes(mail("no@d"))
    store = open_mail_store(there.path)
    assert store.statistics().mails == 1
    assert store.find("a@b").folder == "2026/11"
    (deep / "later").mkdir()
    (deep / "later" / "b.eml").write_bytes(mail("b@b"))
    assert store.scan().added == ("b@b",)


def test_names_that_are_no_text_can_be_told_and_their_mails_read(there):
    folder = there.path / os.fsdecode(b"a\xff")
    folder.mkdir()
    (folder / os.fsdecode(b"\xfe.eml")).write_bytes(mail("a@b"))
    store = open_mail_store(there.path)
    assert store.find("a@b").folder == "a\\udcff"
    assert store.read("a@b") == mail("a@b")
    assert store.carry_out("a@b", "archive").outcome is Outcome.DONE


def test_a_file_that_is_being_written_is_not_processed_before_it_stands_still(there):
    clock = SetClock()
    whole = mail("a@b", body="Hello\n" * 100)
    store = open_mail_store(there.path, clock=clock)
    with (there.path / "a.eml").open("wb") as file:
        file.write(whole[:20])
        file.flush()
        store.scan()
        assert store.find("a@b") is None
        file.write(whole[20:])
        file.flush()
        assert "a@b" in store.scan().added
        assert store.find("a@b").size == len(whole)
        assert store.unprocessed(9) == []
    clock.ahead = timedelta(seconds=3)
    store.scan()
    assert store.unprocessed(9) == ["a@b"]


def test_an_empty_file_is_no_mail_yet(there):
    (there.path / "a.eml").touch()
    store = open_mail_store(there.path)
    assert store.statistics().mails == 0
    (there.path / "a.eml").write_bytes(mail("a@b"))
    assert store.scan().added == ("a@b",)
    (there.path / "a.eml").unlink()
    assert store.scan().removed == ("a@b",)


def test_a_file_that_was_edited_long_after_is_seen_by_a_thorough_scan(there):
    clock = SetClock()
    path = there.path / "a.eml"
    path.write_bytes(mail("a@b"))
    clock.ahead = timedelta(minutes=1)
    store = open_mail_store(there.path, clock=clock)
    path.write_bytes(mail("changed@b"))
    assert store.scan(thorough=True).added == ("changed@b",)
    assert store.find("a@b") is None


def test_files_of_the_same_name_are_filed_side_by_side(there):
    for folder in ("x", "y"):
        (there.path / folder).mkdir()
        (there.path / folder / "1.eml").write_bytes(mail(f"{folder}@b"))
    store = open_mail_store(there.path)
    for folder in ("x", "y"):
        assert store.carry_out(f"{folder}@b", "archive").outcome is Outcome.DONE
        assert store.carry_out(f"{folder}@b", "archive").outcome is Outcome.ALREADY
    assert there.contents("Archive") == [mail("y@b"), mail("x@b")]
    assert open_mail_store(there.path).find("y@b").folder == "Archive"
    assert store.unprocessed(9) == []


def test_the_name_that_a_killed_process_reserved_is_no_mail_and_in_nobodys_way(there):
    there.put(mail("a@b"))
    name = next(there.path.glob("*.eml")).name
    (there.path / "Archive").mkdir()
    (there.path / "Archive" / name).touch()
    store = open_mail_store(there.path)
    assert store.carry_out("a@b", "archive").outcome is Outcome.DONE
    assert store.read("a@b") == mail("a@b")
    assert store.statistics().mails == 1
