"""The sockets: what each kind of bind opens, and what the person who wrote it is told."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from econeura_daemon.core.errors import ListenError, SettingsError
from econeura_daemon.core.settings import HttpSettings
from econeura_daemon.server import open_listeners
from tests.http.server_rig import request, serving

PROGRAM = Path(__file__).with_name("server_passed_socket.py")
ROOT = PROGRAM.parents[2]


def opened(*bind, has_tokens=False, environ=(), **settings):
    return open_listeners(HttpSettings(bind=bind, **settings), dict(environ), has_tokens=has_tokens)


def advice(*bind, **more):
    with pytest.raises(SettingsError) as caught:
        opened(*bind, **more)
    (flaw,) = caught.value.flaws
    return str(flaw)


def refusal(*bind, **more):
    with pytest.raises(ListenError) as caught:
        opened(*bind, **more)
    return str(caught.value)


@pytest.mark.parametrize(
    ("bind", "prefix"), [("127.0.0.1:0", "http://127.0.0.1:"), ("[::1]:0", "http://[::1]:")]
)
def test_port_0_becomes_a_real_port(bind, prefix):
    (listener,) = opened(bind)
    with listener:
        assert listener.url.startswith(prefix)
        port = int(listener.url.rpartition(":")[2])
        assert port == listener.socket.getsockname()[1] > 0
        assert listener.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
    listener.close()


def test_localhost_means_every_loopback_address_it_has():
    listeners = opened("localhost:0")
    assert {listener.names for listener in listeners} == {frozenset({"localhost"})}
    assert all(listener.is_local for listener in listeners)
    for listener in listeners:
        listener.close()


def test_several_binds_are_all_opened_or_none(tmp_path):
    first, second = opened("127.0.0.1:0", f"unix:{tmp_path}/a")
    assert second.url == f"unix:{tmp_path}/a"
    taken = first.url.removeprefix("http://")
    assert "is in use by another program" in refusal(f"unix:{tmp_path}/b", taken)
    assert not (tmp_path / "b").exists()
    first.close()
    second.close()
    (again,) = opened(taken)
    again.close()


@pytest.mark.parametrize("mode", ["0660", "600", "0777"])
def test_a_unix_socket_has_its_mode_and_is_removed_at_the_end(tmp_path, mode):
    path = tmp_path / "socket"
    (listener,) = opened(f"unix:{path}", unix_socket_mode=mode)
    assert stat.S_IMODE(path.stat().st_mode) == int(mode, 8)
    listener.close()
    assert not path.exists()
    listener.close()


def test_a_stale_socket_is_replaced_and_a_live_one_left_alone(tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    (listener,) = opened(f"unix:{path}")
    assert "another process listens" in refusal(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close()


def test_a_live_socket_whose_backlog_is_full_is_left_alone(tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as client:
        busy.bind(str(path))
        busy.listen(0)
        client.connect(str(path))
        assert "another process listens" in refusal(f"unix:{path}")


def test_the_file_of_a_successor_is_not_removed(tmp_path):
    path = tmp_path / "socket"
    (old,) = opened(f"unix:{path}")
    path.unlink()
    (new,) = opened(f"unix:{path}")
    old.close()
    assert path.exists()
    new.close()


def test_errors_say_what_to_do(tmp_path):
    (tmp_path / "file").write_text("precious")
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = f"127.0.0.1:{holder.getsockname()[1]}"
        assert refusal(taken) == (
            f"$.http.bind[0]: {taken} is in use by another program: "
            "stop it, or choose another port (0: any free one)"
        )
    assert "is no address of this machine" in refusal("192.0.2.1:0", has_tokens=True)
    assert "cannot be resolved" in refusal("no.such.host.invalid:0")
    assert "exists and is no socket" in advice(f"unix:{tmp_path}/file")
    assert (tmp_path / "file").read_text() == "precious"
    assert "does not exist: create it" in refusal(f"unix:{tmp_path}/none/socket")
    assert "expected a path of 1 to 107 bytes" in advice("unix:" + "x" * 108)
    assert "expected a port of at most 65535" in advice("127.0.0.1:65536")
    assert "is not open" in advice("fd://987")
    with (tmp_path / "file").open() as file:
        assert "is no socket" in advice(f"fd://{file.fileno()}")


def test_a_folder_that_takes_no_sockets_is_said():
    """Not even root can write into /proc."""
    assert "/proc" in refusal("unix:/proc/socket")


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "*:0", "[::]:0"])
def test_an_address_that_others_can_reach_needs_a_token(bind):
    assert "there is no token yet" in advice(bind)
    assert "econeura-daemon token create" in advice("127.0.0.1:0", bind)
    (listener,) = opened(bind, has_tokens=True)
    assert not listener.is_local
    listener.close()


def start(sockets, bind, pid, count):
    """Run the program with the sockets as descriptors 3, 4, …; a shell moves them there."""
    fds = [sock.fileno() for sock in sockets]
    moves = " ".join(f"{3 + index}<&{fd}" for index, fd in enumerate(fds))
    command = f'exec "$0" "$@" {moves}'
    return subprocess.Popen(
        ["/bin/bash", "-c", command, sys.executable, str(PROGRAM), bind, pid, count],
        stdout=subprocess.PIPE,
        pass_fds=fds,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )


def test_sockets_passed_by_systemd_win_over_bind(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        path = str(tmp_path / "socket")
        unix.bind(path)
        unix.listen()
        with start([tcp, unix], f"unix:{tmp_path}/unused", "ours", "2") as program:
            port = tcp.getsockname()[1]
            assert program.stdout.readline().split() == [f"http://127.0.0.1:{port}", f"unix:{path}"]
            with socket.create_connection(("127.0.0.1", port)) as client:
                assert client.recv(100) == b"served"
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                assert client.recv(100) == b"served"
            assert program.wait(20) == 0
        assert Path(path).exists(), "systemd's file is not ours to remove"
        assert not (tmp_path / "unused").exists()


def test_sockets_passed_to_another_process_are_not_taken(tmp_path):
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        start([tcp], f"unix:{tmp_path}/used", "1", "1") as program,
    ):
        assert program.stdout.readline().split() == [f"unix:{tmp_path}/used"]
        program.terminate()


def test_a_descriptor_by_its_number_is_served():
    with socket.create_server(("127.0.0.1", 0)) as tcp, start([tcp], "fd://3", "", "") as program:
        port = tcp.getsockname()[1]
        assert program.stdout.readline().split() == [f"http://127.0.0.1:{port}"]
        with socket.create_connection(("127.0.0.1", port)) as client:
            assert client.recv(100) == b"served"


def test_a_passed_socket_that_others_can_reach_needs_a_token_too():
    with socket.create_server(("0.0.0.0", 0)) as tcp, start([tcp], "127.0.0.1:0", "ours", "1") as program:
        assert "there is no token yet" in program.stdout.readline()


@pytest.mark.parametrize("count", ["x", "-1", "99999"])
def test_a_count_of_descriptors_that_is_none_is_refused(count):
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count}
    assert "expected a number" in advice("127.0.0.1:0", environ=environ)


def test_a_datagram_socket_is_refused():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        assert "no TCP or unix stream socket" in advice(f"fd://{udp.fileno()}")


async def test_a_unix_socket_serves_requests_and_is_gone_afterwards(tmp_path):
    path = tmp_path / "socket"
    async with serving(unix=path) as rig:
        assert rig.server.urls == [f"unix:{path}"]
        answer = await rig.ask(request("/context"))
        assert b"peer='unix'" in answer.body
    assert not path.exists()


async def test_ipv6_and_several_listeners_are_served_at_once(tmp_path):
    async with serving(bind=("127.0.0.1:0", "[::1]:0", f"unix:{tmp_path}/s")) as rig:
        assert len(rig.server.urls) == 3
        assert (await rig.ask(request())).status == 200
        rig.port = None
        rig.path = tmp_path / "s"
        assert (await rig.ask(request())).status == 200
