"""sd_notify, as a service manager hears it on a real socket."""

import os
import socket
import time

import pytest

from econeura_daemon.supervision.notify import open_notifier


@pytest.fixture(params=["path", "abstract"])
def address(request, tmp_path):
    return (
        str(tmp_path / "notify")
        if request.param == "path"
        else f"@econeura-test-{os.getpid()}-{time.monotonic_ns()}"
    )


@pytest.fixture
def systemd(address):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address.replace("@", "\0", 1) if address[0] == "@" else address)
        listening.settimeout(5)
        yield listening


@pytest.fixture
def notifier(address, systemd):
    with open_notifier({"NOTIFY_SOCKET": address}) as opened:
        yield opened


def test_each_state_is_one_datagram(notifier, systemd):
    assert notifier.ready("serving on 127.0.0.1:3001")
    assert systemd.recv(1000) == b"READY=1\nSTATUS=serving on 127.0.0.1:3001"
    assert notifier.ready()
    assert systemd.recv(1000) == b"READY=1"
    assert notifier.stopping("draining")
    assert systemd.recv(1000) == b"STOPPING=1\nSTATUS=draining"
    assert notifier.status("12 deliveries wait")
    assert systemd.recv(1000) == b"STATUS=12 deliveries wait"
    assert notifier.watchdog()
    assert systemd.recv(1000) == b"WATCHDOG=1"


def test_reloading_carries_the_time_of_the_monotonic_clock(notifier, systemd):
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert notifier.reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    first, second = systemd.recv(1000).decode().splitlines()
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= after


def test_a_status_cannot_smuggle_in_another_state(notifier, systemd):
    notifier.status("one\nSTOPPING=1\r\ntwo \ud800")
    assert systemd.recv(1000) == b"STATUS=one STOPPING=1 two ?"


def test_an_empty_status_is_not_sent(notifier):
    assert not notifier.status("")


def test_without_the_variable_nothing_happens():
    with open_notifier({}) as notifier:
        assert not notifier.ready("x")
        assert not notifier.watchdog()
        assert notifier.watchdog_interval is None


def test_the_variables_are_taken_away_from_children(address, systemd):
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "PATH": "/bin"}
    with open_notifier(environ):
        assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize("name", ["vsock:2:1234", "relative/path", "/does/not/exist", "/" + "x" * 200])
def test_a_socket_that_cannot_be_reached_is_said_and_raises_nothing(name, caplog):
    with open_notifier({"NOTIFY_SOCKET": name}) as notifier:
        assert not notifier.ready()
    assert "service manager" in caplog.text


def test_a_manager_that_went_away_raises_nothing(notifier, systemd):
    systemd.close()
    assert not notifier.ready()


def test_a_manager_that_does_not_read_delays_nobody_for_long(notifier, systemd, monkeypatch, caplog):
    monkeypatch.setattr("econeura_daemon.supervision.notify.PATIENCE", 0.01)
    started = time.monotonic()
    while notifier.watchdog():
        pass
    assert not notifier.stopping()
    assert time.monotonic() - started < 5
    assert "could not be told" in caplog.text


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid() + 1)}, None),
        ({"WATCHDOG_PID": str(os.getpid())}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdogs_interval_is_that_of_this_process_in_seconds(address, systemd, environ, interval):
    with open_notifier({"NOTIFY_SOCKET": address, **environ}) as notifier:
        assert notifier.watchdog_interval == interval
