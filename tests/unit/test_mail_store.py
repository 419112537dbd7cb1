"""What holds for every kind of mail store."""

import json
import os
import threading
from functools import partial

import pytest
import trio

from econeura_daemon.core.errors import InvalidInputError
from econeura_daemon.worker.mailstore import (
    Action,
    Changes,
    Kind,
    MailStoreError,
    MailStoreUnavailableError,
    MailTooLargeError,
    MailUnreadableError,
    MessageNotFoundError,
    Outcome,
    open_mail_store,
    watch,
)
from tests.support.mails import LateClock, Stores, deliver, mail
from tests.support.waiting import until

KINDS = ["maildir", "mbox", "eml"]


@pytest.fixture(params=KINDS)
def there(request, tmp_path):
    return Stores(request.param, tmp_path)


def opened(there, **more):
    return open_mail_store(there.path, clock=LateClock(), **more)


def test_a_mail_is_found_by_its_id_with_and_without_brackets(there):
    there.put(mail("a@b"))
    store = opened(there)
    assert store.find("<a@b>") == store.find("a@b") == store.find(" a@b\n")
    assert store.find("a@b").folder == "INBOX"
    assert store.find("A@b") is None
    assert store.statistics().kind == there.kind


def test_a_mail_is_read_as_it_was_written(there):
    content = mail("a@b", body="Hello\n\nFrom now on\n.\n\n\nbye\n")
    there.put(content)
    store = opened(there)
    assert store.read("<a@b>") == there.contents()[0]
    assert store.read("a@b").replace(b"\n>From ", b"\nFrom ") == content
    with pytest.raises(MessageNotFoundError, match="no mail 'c@d'"):
        store.read("c@d")


def test_a_mail_without_an_id_has_one_that_stays(there):
    there.put(mail(None))
    there.put(mail("a@b"))
    first = opened(there)
    derived = next(found for found in first.unprocessed(9) if found != "a@b")
    assert derived.startswith("sha256:")
    assert first.statistics().derived_ids == 1
    there.put(mail("c@d"))
    assert b"Message-ID" not in opened(there).read(derived)


def test_a_mail_that_came_a_moment_ago_is_found_without_a_scan(there):
    store = opened(there)
    there.put(mail("a@b"))
    assert store.find("a@b") is not None


def test_a_scan_says_what_came_and_what_went(there):
    there.put(mail("a@b"))
    store = opened(there)
    there.put(mail("c@d"))
    assert store.scan() == Changes(added=("c@d",))
    assert store.scan() == Changes()
    there.path.rename(there.path.with_name("elsewhere"))
    Stores(there.kind, there.path.parent).put(mail("e@f"))
    changes = store.scan(thorough=True)
    assert sorted(changes.removed) == ["a@b", "c@d"]
    assert changes.added == ("e@f",)


def test_mails_with_the_same_id_are_one_to_callers(there):
    for n in range(3):
        there.put(mail("a@b", subject=f"copy {n}"))
    store = opened(there)
    assert store.statistics().duplicates == 2
    assert store.unprocessed(9) == ["a@b"]
    assert b"copy" in store.read("a@b")


def test_a_mail_beyond_the_limit_is_refused(there):
    there.put(mail("a@b", body="x" * 2000 + "\n"))
    store = opened(there, read_limit=1000)
    with pytest.raises(MailTooLargeError, match="1000 bytes"):
        store.read("a@b")


def test_what_was_processed_is_remembered_over_a_restart_and_by_others(there):
    for n in range(5):
        there.put(mail(f"{n}@b"))
    store, other = opened(there), opened(there)
    assert store.carry_out("<2@b>", "none").outcome is Outcome.DONE
    assert store.unprocessed(2) == ["0@b", "1@b"]
    assert other.unprocessed(9) == ["0@b", "1@b", "3@b", "4@b"]
    assert opened(there).unprocessed(9) == ["0@b", "1@b", "3@b", "4@b"]
    assert opened(there).statistics().processed == 1


def test_half_a_line_that_a_power_failure_left_hides_no_other_mark(there, tmp_path):
    there.put(mail("a@b"))
    there.put(mail("c@d"))
    marks = tmp_path / "marks"
    marks.write_bytes(b'{"id":"x@y","processed":true}\n{"id":"c@')
    store = opened(there, marks=marks)
    store.carry_out("a@b", Action.NONE)
    assert store.unprocessed(9) == ["c@d"]
    assert opened(there, marks=marks).unprocessed(9) == ["c@d"]


def test_nothing_can_be_done_with_a_mail_that_is_not_there(there):
    store = opened(there)
    for action, category in (("none", None), ("archive", None), ("categorize", "Bills")):
        with pytest.raises(MessageNotFoundError):
            store.carry_out("a@b", action, category)


@pytest.mark.parametrize("category", ["", ".", "..", "a/b", "../a", "a.b", " a", "a\n", "x" * 65, None])
def test_a_category_that_no_folder_can_have_is_refused(there, category):
    there.put(mail("a@b"))
    with pytest.raises(InvalidInputError, match=r"\$\.category"):
        opened(there).carry_out("a@b", Action.CATEGORIZE, category)


def test_many_threads_may_ask_at_once(there):
    for n in range(200):
        there.put(mail(f"{n}@b"))
    store = opened(there)
    wrong = []

    def ask(begin):
        for n in range(begin, 200, 4):
            if b"Subject: A question" not in store.read(f"{n}@b") or store.find(f"{n}@c") is not None:
                wrong.append(n)
            store.carry_out(f"{n}@b", "none")

    threads = [threading.Thread(target=ask, args=(begin,)) for begin in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert store.unprocessed(9) == []


async def test_watching_hands_on_what_comes_and_survives_that_the_store_is_away(there, nursery, caplog):
    store = opened(there)
    changes, seen = trio.open_memory_channel(9)

    async def said():
        return caplog.messages

    with trio.fail_after(30):
        await nursery.start(partial(watch, store, changes.send, interval=0.01))
        there.put(mail("a@b"))
        assert await seen.receive() == Changes(added=("a@b",))
        away = there.path.parent.with_name("away")
        there.path.parent.rename(away)
        await until(said)
        away.rename(there.path.parent)
        there.put(mail("c@d"))
        assert await seen.receive() == Changes(added=("c@d",))
    assert len(caplog.messages) == 1
    assert "cannot be read" in caplog.text or "is not there" in caplog.text
    nursery.cancel_scope.cancel()


def test_a_store_that_is_not_there_is_said(tmp_path):
    with pytest.raises(MailStoreUnavailableError, match="There is no mail store at"):
        open_mail_store(tmp_path / "nothing")
    (tmp_path / "file").write_text("Dear diary")
    with pytest.raises(MailStoreUnavailableError, match="is no mbox"):
        open_mail_store(tmp_path / "file")
    with pytest.raises(MailStoreUnavailableError, match="cannot be read"):
        open_mail_store(tmp_path / "nothing", Kind.MAILDIR)


def test_links_lead_nowhere(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.eml").write_bytes(mail("secret@b"))
    for kind in ("maildir", "eml"):
        there = Stores(kind, tmp_path)
        there.put(mail("a@b"))
        into = there.path / "new" if kind == "maildir" else there.path
        (into / "link.eml").symlink_to(outside / "secret.eml")
        (there.path / ("folder" if kind == "eml" else ".folder")).symlink_to(outside)
        os.mkfifo(into / "pipe.eml")
        store = opened(there)
        assert store.find("secret@b") is None
        assert store.statistics().mails == 1
        assert store.statistics().unreadable == 2
        victim = deliver(there.path, mail("c@d")) if kind == "maildir" else there.path / "c.eml"
        victim.write_bytes(mail("c@d"))
        assert store.scan().added == ("c@d",)
        victim.unlink()
        victim.symlink_to(outside / "secret.eml")
        with pytest.raises(MailUnreadableError):
            store.read("c@d")
        for path in into.iterdir():
            if path.is_symlink() or path.is_fifo():
                path.unlink()
        store.scan(thorough=True)
        assert store.statistics().unreadable == 0


async def test_counting_waits_for_no_scan(there):
    there.put(mail("a@b"))
    store = opened(there)
    with store._lock:
        assert (await trio.to_thread.run_sync(store.statistics)).mails == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_is_a_link_is_not_filed_into(tmp_path, kind):
    outside = tmp_path / "outside"
    outside.mkdir()
    there = Stores(kind, tmp_path)
    there.put(mail("a@b"))
    name = {"maildir": "Maildir/.Archive", "mbox": "inbox.folders", "eml": "drop/Archive"}[kind]
    (tmp_path / name).symlink_to(outside)
    with pytest.raises(MailStoreError, match="no folder of the store's own"):
        opened(there, marks=tmp_path / "marks").carry_out("a@b", "archive")
    assert list(outside.iterdir()) == []
    assert there.contents() == [mail("a@b")]


def test_marks_of_mails_that_are_gone_are_left_out_of_a_large_file(tmp_path):
    there = Stores("maildir", tmp_path)
    there.put(mail("a@b"))
    there.put(mail("c@d"))
    there.put(mail("e@f"))
    opened(there).act("e@f", "archive")
    marks = tmp_path / "marks"
    lines = [{"id": f"{n}.{'x' * 60}@gone", "processed": True} for n in range(12_000)]
    lines += [{"id": "a@b", "processed": True}, {"id": "c@d", "to": "x@y", "sending": "sent"}]
    lines += [{"id": "e@f", "filing": True}]
    marks.write_text("".join(json.dumps(line) + "\n" for line in lines))
    other = opened(there, marks=marks)
    assert marks.stat().st_size < 1000
    store = opened(there, marks=marks)
    store.carry_out("c@d", "none")
    assert other.unprocessed(9) == store.unprocessed(9) == ["e@f"]
    assert '"sending":"sent"' in marks.read_text()
