"""Mails that nobody here wrote, in every kind of store."""

import pytest

from econeura_daemon.worker.mailstore import open_mail_store
from tests.support.cpython_mails import cpython_mails
from tests.support.mails import LateClock, Stores

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["maildir", "mbox", "eml"])
def test_every_mail_of_cpythons_test_suite_is_found_read_and_filed(kind, tmp_path):
    there = Stores(kind, tmp_path)
    mails = [path.read_bytes() for path in cpython_mails()]
    for content in mails:
        there.put(content)
    before = sorted(there.contents())
    assert len(before) == len(mails)
    store = open_mail_store(there.path, clock=LateClock())
    counts = store.statistics()
    assert (counts.mails, counts.unreadable) == (len(mails), 0)
    found = store.unprocessed(1000)
    assert len(found) == len(mails) - counts.duplicates
    for message_id in found:
        content = store.read(message_id)
        assert content in before
        store.carry_out(message_id, "archive")
    store.scan(thorough=True)
    assert sorted(there.contents() + there.contents("Archive")) == before
    assert open_mail_store(there.path, clock=LateClock()).unprocessed(9) == []
