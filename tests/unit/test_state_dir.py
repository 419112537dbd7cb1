"""The state directory on a real file system; other holders of it are real processes."""

import errno
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from econeura_daemon.core.errors import SettingsError, StateDirectoryHeldError, StoreFullError
from econeura_daemon.finding.ready import FILE
from econeura_daemon.supervision.state_dir import IDENTITY, LOCK, _refusal, open_state_dir


class Clock:
    def now(self):
        return datetime(2026, 11, 24, tzinfo=UTC)


def opened(path, seed=1):
    return open_state_dir(path, Clock(), Random(seed))


def test_it_is_made_for_its_owner_alone_with_its_parents(tmp_path):
    path = tmp_path / "a" / "b"
    with opened(path) as state:
        assert state.path == path
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        for name in (LOCK, IDENTITY):
            assert stat.S_IMODE((path / name).stat().st_mode) == 0o600


def test_the_daemons_id_stays_and_the_runs_id_changes(tmp_path):
    with opened(tmp_path, seed=1) as first:
        pass
    with opened(tmp_path, seed=2) as second:
        pass
    assert first.daemon_id == second.daemon_id
    assert first.daemon_id.startswith("dmn_")
    assert first.run_id != second.run_id
    assert first.run_id.startswith("run_")


def test_the_lock_names_the_holder_and_a_second_daemon_is_refused_with_its_pid(tmp_path):
    with opened(tmp_path):
        assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"
        with (
            pytest.raises(StateDirectoryHeldError, match=rf"pid {os.getpid()}\)") as refused,
            opened(tmp_path),
        ):
            pass
        assert str(tmp_path) in str(refused.value)
    with opened(tmp_path):
        pass


HOLD = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from econeura_daemon.finding.ready import FILE
from econeura_daemon.supervision.state_dir import open_state_dir
class Clock:
    def now(self): return datetime(2026, 11, 24, tzinfo=UTC)
with open_state_dir(Path(sys.argv[1]), Clock(), Random(1)):
    print("held", flush=True)
    time.sleep(1000)
"""


def test_a_killed_daemon_holds_nothing(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            assert other.stdout.readline() == "held\n"
            with pytest.raises(StateDirectoryHeldError, match=f"pid {other.pid}"), opened(tmp_path):
                pass
        finally:
            other.kill()
        other.wait(10)
        with opened(tmp_path):
            assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"


def test_what_a_killed_daemon_said_of_itself_is_gone_once_the_lock_is_ours(tmp_path):
    with opened(tmp_path):
        (tmp_path / FILE).write_text("{}")
        with pytest.raises(StateDirectoryHeldError), opened(tmp_path):
            pass
        assert (tmp_path / FILE).exists(), "it is the holder's"
    with opened(tmp_path):
        assert not (tmp_path / FILE).exists()


def test_a_child_that_outlives_the_daemon_holds_nothing(tmp_path):
    with opened(tmp_path):
        # A forked child shares the open file, as this duplicate does.
        [lock] = [
            int(link.name)
            for link in Path("/proc/self/fd").iterdir()
            if os.path.realpath(link) == str((tmp_path / LOCK).resolve())
        ]
        childs = os.dup(lock)
        assert not os.get_inheritable(lock)
    try:
        with opened(tmp_path):
            pass
    finally:
        os.close(childs)


def test_of_an_earlier_longer_pid_nothing_remains(tmp_path):
    (tmp_path / LOCK).write_text("1234567890123\n")
    with opened(tmp_path):
        assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"


def test_an_error_inside_the_block_is_not_taken_for_one_of_the_directory(tmp_path):
    with pytest.raises(PermissionError, match="mine"), opened(tmp_path):
        raise PermissionError("mine")
    with opened(tmp_path):
        pass


def test_no_temporary_file_is_left(tmp_path):
    for _ in range(2):
        with opened(tmp_path):
            assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK, IDENTITY]


@pytest.mark.parametrize("content", ["", "dmn_", "dmn_01JD0000000000000000000000 x", "\xff"])
def test_a_damaged_identity_is_refused_and_not_silently_replaced(tmp_path, content):
    (tmp_path / IDENTITY).write_text(content)
    with pytest.raises(SettingsError, match="restore it from a backup, or delete it"), opened(tmp_path):
        pass
    assert (tmp_path / IDENTITY).read_text() == content


def test_a_file_in_its_place_is_refused_and_said(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SettingsError, match=r"daemon.state_dir: cannot use .*it is a file"),
        opened(tmp_path / "file"),
    ):
        pass
    with pytest.raises(SettingsError, match="a part of the path is a file"), opened(tmp_path / "file" / "x"):
        pass


def test_a_lock_that_is_a_directory_is_refused_and_said(tmp_path):
    (tmp_path / LOCK).mkdir()
    with pytest.raises(SettingsError, match="cannot use"), opened(tmp_path):
        pass


AS_NOBODY = """
import os, sys
from pathlib import Path
from random import Random
from econeura_daemon.core.errors import SettingsError
from econeura_daemon.finding.ready import FILE
from econeura_daemon.supervision.state_dir import open_state_dir
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    with open_state_dir(Path(sys.argv[1]), None, Random(1)): pass
except SettingsError as error:
    print(error)
"""


def test_a_directory_of_another_user_is_refused_with_what_to_do():
    # /etc is root's; a root that tests becomes nobody first.
    said = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, "/etc/econeura-state"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    uid = os.geteuid() or 65534
    assert f"Permission denied; give it to the user that runs the daemon (uid {uid})" in said


@pytest.mark.parametrize(
    ("number", "kind", "says"),
    [
        (errno.ENOSPC, StoreFullError, "no space is left"),
        (errno.EDQUOT, StoreFullError, "no space is left"),
        (errno.EROFS, SettingsError, "ReadWritePaths="),
        (errno.ENOLCK, SettingsError, "choose a local one"),
        (errno.EACCES, SettingsError, "give it to the user"),
        (errno.EIO, SettingsError, "choose a directory"),
    ],
)
def test_each_failure_says_what_to_do(number, kind, says):
    refusal = _refusal(Path("/var/lib/x"), OSError(number, os.strerror(number), "/var/lib/x/daemon.lock"))
    assert isinstance(refusal, kind)
    assert says in str(refusal)
    assert "/var/lib/x" in str(refusal)


def test_a_directory_that_all_can_write_is_warned_of(tmp_path, caplog):
    tmp_path.chmod(0o777)
    with opened(tmp_path):
        pass
    assert "can be written by every user" in caplog.text
