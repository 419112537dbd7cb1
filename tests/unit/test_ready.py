"""``ready.json``: written in one step, read without anything heavy, and no ghost of an earlier process."""

import json
import os
import subprocess
import sys

import pytest

from econeura_daemon.finding.ready import FILE, Ready, read_ready, start_ticks
from econeura_daemon.supervision.ready import remove_ready, write_ready


@pytest.fixture
def ready():
    return Ready(
        urls=("http://127.0.0.1:3001", "unix:/run/econeura/api.sock"),
        pid=os.getpid(),
        version="1.2.3",
        started_at="2026-11-24T02:00:00.000Z",
        run_id="run_01JD0000000000000000000000",
        start_ticks=start_ticks(os.getpid()),
    )


def test_what_is_written_is_read_back(tmp_path, ready):
    write_ready(tmp_path, ready)
    assert read_ready(tmp_path) == ready
    assert read_ready(tmp_path).alive
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_the_file_holds_one_json_line(tmp_path, ready):
    write_ready(tmp_path, ready)
    text = (tmp_path / FILE).read_text()
    assert text.count("\n") == 1
    assert json.loads(text) == {
        "event": "ready",
        "urls": ["http://127.0.0.1:3001", "unix:/run/econeura/api.sock"],
        "pid": os.getpid(),
        "version": "1.2.3",
        "startedAt": "2026-11-24T02:00:00.000Z",
        "runId": "run_01JD0000000000000000000000",
        "startTicks": ready.start_ticks,
    }


def test_it_can_be_written_again_and_removed_twice(tmp_path, ready):
    write_ready(tmp_path, ready)
    write_ready(tmp_path, ready._replace(urls=()))
    assert read_ready(tmp_path).urls == ()
    remove_ready(tmp_path)
    remove_ready(tmp_path)
    assert read_ready(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"urls": 1}',
        '{"urls":[],"pid":"x","version":"","startedAt":"","runId":""}',
        '{"urls":[],"pid":-1,"version":"","startedAt":"","runId":""}',
        b"\xff",
    ],
)
def test_a_file_that_is_none_of_ours_is_as_none(tmp_path, content):
    (tmp_path / FILE).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read_ready(tmp_path) is None


def test_the_file_of_a_killed_daemon_is_told_from_that_of_a_live_one(tmp_path, ready):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        theirs = ready._replace(pid=other.pid, start_ticks=start_ticks(other.pid))
        assert theirs.alive
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet reaped
        assert not theirs.alive
    assert not theirs.alive


def test_another_process_with_the_same_pid_is_told_from_it(ready):
    assert not ready._replace(start_ticks=ready.start_ticks + 1).alive
    assert ready._replace(start_ticks=None).alive


def test_a_process_name_with_brackets_and_spaces_is_read():
    with subprocess.Popen(
        [sys.executable, "-c", "open('/proc/self/comm','w').write('a) b (c'); print(1, flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        other.stdout.readline()
        assert 0 <= start_ticks(other.pid) - start_ticks(os.getpid()) < 1_000_000
        other.communicate(b"\n", timeout=30)


def test_reading_it_loads_nothing_heavy():
    code = (
        "import sys; from econeura_daemon.finding.ready import read_ready; "
        "print([m for m in ('trio', 'sqlalchemy', 'quart', 'httpx') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "[]\n"
