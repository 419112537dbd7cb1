"""Tokens: what the file holds, who may read it, and that a running daemon notices a change."""

import json
import os
import stat
import threading
from datetime import UTC, datetime, timedelta

import attrs
import pytest

from econeura_daemon.core.clock import SystemClock
from econeura_daemon.core.errors import ConflictError, InvalidInputError, NotFoundError, SettingsError
from econeura_daemon.server import Scope, TokenFile, create_token, list_tokens, revoke_token
from tests.http.server_rig import request, serving


@attrs.define
class StillClock:
    instant: datetime = datetime(2026, 11, 24, 2, tzinfo=UTC)

    def now(self):
        return self.instant


CLOCK = StillClock()


def make(folder, name="ci", scopes=(Scope.READ,), **more):
    return create_token(folder, name, scopes, CLOCK, **more)


def test_a_token_is_told_once_and_kept_as_a_hash(tmp_path):
    token, text = make(tmp_path)
    assert text.startswith("eco_")
    assert len(text) == 47
    content = (tmp_path / "tokens.json").read_text()
    assert text not in content
    assert text[4:] not in content
    assert list_tokens(tmp_path) == [token]
    assert set(json.loads(content)["tokens"][0]) == {
        "id", "name", "scopes", "hash", "createdAt", "expiresAt"
    }  # fmt: skip


def test_no_two_tokens_are_alike(tmp_path):
    assert len({make(tmp_path, f"t{n}")[1] for n in range(20)}) == 20


def test_the_file_belongs_to_its_owner_alone_and_no_draft_is_left(tmp_path):
    make(tmp_path)
    make(tmp_path, "second")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokens.json", "tokens.json.lock"]
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_files_belong_to_the_owner_of_the_state_directory(tmp_path):
    owner = (12345, 54321) if os.geteuid() == 0 else (os.getuid(), os.getgid())  # only root can differ
    os.chown(tmp_path, *owner)
    make(tmp_path)
    for path in tmp_path.iterdir():
        assert (path.stat().st_uid, path.stat().st_gid) == owner


def test_a_revoked_token_is_gone_by_id_or_name(tmp_path):
    first, _ = make(tmp_path, "first")
    make(tmp_path, "second")
    assert revoke_token(tmp_path, first.id) == first
    assert revoke_token(tmp_path, "second").name == "second"
    assert list_tokens(tmp_path) == []
    with pytest.raises(NotFoundError):
        revoke_token(tmp_path, "second")


@pytest.mark.parametrize("name", ["", " ", "a\n", "x" * 65, "ä"])
def test_a_name_that_does_not_fit_is_refused(tmp_path, name):
    with pytest.raises(InvalidInputError):
        make(tmp_path, name)


def test_a_taken_name_no_scope_and_a_past_end_are_refused(tmp_path):
    make(tmp_path)
    with pytest.raises(ConflictError, match="revoke it first"):
        make(tmp_path)
    with pytest.raises(InvalidInputError):
        make(tmp_path, "other", scopes=())
    with pytest.raises(InvalidInputError):
        make(tmp_path, "other", expires_at=CLOCK.now())
    assert len(list_tokens(tmp_path)) == 1


def test_tokens_made_at_the_same_time_are_all_kept(tmp_path):
    threads = [threading.Thread(target=make, args=(tmp_path, f"t{n}")) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list_tokens(tmp_path)) == 16


def test_the_daemon_notices_new_and_revoked_tokens(tmp_path):
    file = TokenFile(tmp_path)
    assert not file.has_tokens
    token, text = make(tmp_path, scopes=(Scope.READ, Scope.ADMIN))
    principal = file.authenticate(text, CLOCK.now())
    assert (principal.name, principal.scopes) == ("ci", {Scope.READ, Scope.ADMIN})
    assert file.authenticate(text + "x", CLOCK.now()) is None
    assert file.authenticate("", CLOCK.now()) is None
    assert file.authenticate("\udcff", CLOCK.now()) is None
    revoke_token(tmp_path, token.id)
    assert file.authenticate(text, CLOCK.now()) is None


def test_a_token_ends_when_it_said(tmp_path):
    end = CLOCK.now() + timedelta(hours=1)
    _, text = make(tmp_path, expires_at=end)
    file = TokenFile(tmp_path)
    assert file.authenticate(text, end - timedelta(milliseconds=1)) is not None
    assert file.authenticate(text, end) is None


GOOD = {
    "id": "tok_1", "name": "a", "scopes": ["read"], "hash": "0" * 64, "createdAt": "2026-11-24T02:00:00.000Z"
}  # fmt: skip
DAMAGED = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b'{"tokens": 5}',
    b'{"tokens": [5]}',
    b'{"tokens": [{}]}',
    b"\xff",
    *(json.dumps({"tokens": [GOOD | change]}).encode() for change in (
        {"scopes": ["everything"]}, {"scopes": "read"}, {"hash": "0"}, {"hash": None}, {"id": 5},
        {"expiresAt": "soon"},
    )),
]  # fmt: skip


def test_the_good_one_beside_the_damaged_ones_is_read(tmp_path):
    (tmp_path / "tokens.json").write_text(json.dumps({"tokens": [GOOD]}))
    assert [token.id for token in list_tokens(tmp_path)] == ["tok_1"]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_is_said_and_lets_nobody_in(tmp_path, content, caplog):
    _, text = make(tmp_path)
    file = TokenFile(tmp_path)
    assert file.authenticate(text, CLOCK.now())
    (tmp_path / "tokens.json").write_bytes(content)
    assert file.authenticate(text, CLOCK.now()) is None
    assert file.authenticate(text, CLOCK.now()) is None
    assert caplog.text.count("no token is accepted") == 1
    with pytest.raises(SettingsError, match=r"tokens\.json.*is damaged"):
        TokenFile(tmp_path)
    with pytest.raises(SettingsError):
        make(tmp_path, "other")
    assert (tmp_path / "tokens.json").read_bytes() == content


async def test_a_token_made_while_the_daemon_runs_opens_the_door(tmp_path):
    async with serving(tokens=TokenFile(tmp_path), auth_required=True) as rig:
        _, text = create_token(tmp_path, "late", [Scope.READ], SystemClock())
        answer = await rig.ask(request("/read", headers=f"Authorization: Bearer {text}\r\n"))
        assert answer.status == 200
        revoke_token(tmp_path, "late")
        answer = await rig.ask(request("/read", headers=f"Authorization: Bearer {text}\r\n"))
        assert answer.status == 401
