import os

import pytest

from econeura_daemon.cli.address import find_address, parse_address
from econeura_daemon.cli.exits import CommandError, Exit
from econeura_daemon.finding import DEFAULT_URL
from econeura_daemon.finding.ready import Ready, start_ticks
from econeura_daemon.supervision.ready import write_ready


def leave_ready(directory, *urls, pid=None):
    directory.mkdir(parents=True, exist_ok=True)
    pid = pid or os.getpid()
    write_ready(
        directory,
        Ready(
            urls=urls,
            pid=pid,
            version="1",
            started_at="2026-11-24T02:00:00.000Z",
            run_id="run_x",
            start_ticks=start_ticks(pid),
        ),
    )


@pytest.mark.parametrize(
    ("url", "host", "port", "prefix", "authority"),
    [
        ("http://127.0.0.1:3001", "127.0.0.1", 3001, "", "127.0.0.1:3001"),
        ("http://example.org/daemon/", "example.org", 80, "/daemon", "example.org"),
        ("https://example.org", "example.org", 443, "", "example.org"),
        ("http://[::1]:5", "::1", 5, "", "[::1]:5"),
        ("unix:/run/e.sock", "localhost", 80, "", "localhost"),
        ("unix:///run/e.sock", "localhost", 80, "", "localhost"),
    ],
)
def test_an_address_is_read(url, host, port, prefix, authority):
    address = parse_address(url)
    assert (address.host, address.port, address.prefix) == (host, port, prefix)
    assert address.authority == authority
    assert address.tls == url.startswith("https")
    assert address.unix_path == ("/run/e.sock" if url.startswith("unix") else None)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:3001",
        "ftp://x",
        "http://",
        "http://x:99999",
        "http://u:p@x",
        "unix:",
        "http://x?y",
        "http://[x",
    ],
)
def test_what_is_no_address_is_a_usage_error(url):
    with pytest.raises(CommandError) as caught:
        parse_address(url)
    assert caught.value.exit_code == Exit.USAGE


def test_without_a_running_daemon_it_is_the_default(tmp_path):
    assert find_address({"HOME": str(tmp_path)}).url == DEFAULT_URL


def test_the_running_daemons_own_word_is_taken_from_each_place_where_state_may_be(tmp_path):
    home, own, systemd = tmp_path / "home", tmp_path / "own", tmp_path / "systemd"
    environ = {"HOME": str(home)}
    leave_ready(home / ".local/state/econeura-daemon", "http://127.0.0.1:1")
    assert find_address(environ).port == 1
    leave_ready(systemd, "http://127.0.0.1:2")
    environ["STATE_DIRECTORY"] = str(systemd)
    assert find_address(environ).port == 2
    config = tmp_path / "e.toml"
    environ["ECONEURA_CONFIG"] = str(config)
    config.write_text(f"daemon.state_dir = '{own}'")
    assert find_address(environ).port == 2
    leave_ready(own, "http://127.0.0.1:3")
    assert find_address(environ).port == 3
    leave_ready(tmp_path / "variable", "http://127.0.0.1:4")
    environ["ECONEURA__DAEMON__STATE_DIR"] = str(tmp_path / "variable")
    assert find_address(environ).port == 4


@pytest.mark.parametrize("text", ["= nonsense", "daemon = 5", "daemon.state_dir = 5", "[daemon]", "\x00"])
def test_a_wrong_configuration_keeps_nobody_from_asking(tmp_path, text):
    (tmp_path / "e.toml").write_text(text)
    leave_ready(tmp_path / ".local/state/econeura-daemon", "http://127.0.0.1:1")
    assert find_address({"HOME": str(tmp_path), "ECONEURA_CONFIG": str(tmp_path / "e.toml")}).port == 1


def test_a_unix_socket_is_preferred_where_it_may_be_used(tmp_path):
    directory = tmp_path / ".local/state/econeura-daemon"
    socket = tmp_path / "s"
    leave_ready(directory, "http://127.0.0.1:1", f"unix:{socket}")
    assert find_address({"HOME": str(tmp_path)}).port == 1
    socket.touch()
    assert find_address({"HOME": str(tmp_path)}).unix_path == str(socket)


def test_a_daemon_that_listens_everywhere_is_asked_on_loopback(tmp_path):
    directory = tmp_path / ".local/state/econeura-daemon"
    for url, there in (("http://0.0.0.0:5", "http://127.0.0.1:5"), ("http://[::]:5", "http://[::1]:5")):
        leave_ready(directory, url)
        assert find_address({"HOME": str(tmp_path)}).url == there


def test_a_word_that_a_dead_daemon_left_is_passed_over(tmp_path):
    directory = tmp_path / ".local/state/econeura-daemon"
    leave_ready(directory, "http://127.0.0.1:5", pid=2**22 + 1)
    assert find_address({"HOME": str(tmp_path)}).url == DEFAULT_URL
