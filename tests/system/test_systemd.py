"""The units fit the daemon that they start, and what they allow it is little."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from econeura_daemon.core.settings import Settings
from econeura_daemon.core.settings_layers import credential_names
from econeura_daemon.supervision.process import EXIT_CONFIGURATION, EXIT_HELD
from econeura_daemon.supervision.signals import GRACE

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "systemd"
SERVICE, WORKER = "econeura-daemon.service", "econeura-worker.service"
SERVICES = pytest.mark.parametrize("service", [SERVICE, WORKER])


def lines(unit):
    """``Key=value`` of a unit, in order; a key may come more than once."""
    text = (UNITS / unit).read_text()
    return re.findall(r"^([A-Za-z]+)=(.*)$", text, re.MULTILINE)


def values(unit, key):
    return [value for name, value in lines(unit) if name == key]


def value(unit, key):
    (only,) = values(unit, key)
    return only


def milliseconds(span):
    number, unit = re.fullmatch(r"(\d+)(s|min)", span).groups()
    return int(number) * {"s": 1000, "min": 60_000}[unit]


@SERVICES
def test_the_exposure_is_at_most_one_and_a_half(service):
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", UNITS / service],
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    exposure = re.search(rf"Overall exposure level for {service}: ([0-9.]+)", done.stdout)
    assert float(exposure[1]) <= 1.5, done.stdout
    assert done.returncode == 0, done.stdout


def test_systemd_finds_nothing_to_complain_about(tmp_path):
    installed = value(SERVICE, "ExecStart").split()[0]
    for unit in UNITS.iterdir():
        # Verification wants the program to be there; any will do.
        (tmp_path / unit.name).write_text(unit.read_text().replace(installed, "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *sorted(tmp_path.iterdir())],
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "econeura" in line]
    assert ours == []
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("service", "command"), [(SERVICE, "serve"), (WORKER, "worker")])
def test_it_starts_the_program_that_make_install_puts_there(service, command):
    program, *arguments = value(service, "ExecStart").split()
    prefix, name = program.split("/bin/")
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(rf"^PREFIX \?= {re.escape(prefix)}$", makefile, re.MULTILINE)
    assert name in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert arguments == [command]
    assert f"systemd/{service}" in makefile


def test_it_is_given_longer_to_stop_than_the_daemon_gives_itself():
    hard_stop_ms = Settings().daemon.drain_timeout_ms + 1000 * GRACE
    assert milliseconds(value(SERVICE, "TimeoutStopSec")) >= hard_stop_ms + 5000
    assert value(SERVICE, "KillMode") == "mixed"  # the main process alone gets the SIGTERM


@SERVICES
def test_it_is_not_started_again_when_starting_again_cannot_help(service):
    assert value(service, "Restart") == "on-failure"
    assert set(value(service, "RestartPreventExitStatus").split()) == {
        str(EXIT_HELD),
        str(EXIT_CONFIGURATION),
    }


@SERVICES
def test_it_waits_for_readiness_and_feeds_a_watchdog(service):
    assert value(service, "Type") == "notify"
    assert milliseconds(value(service, "WatchdogSec")) >= 10_000


def test_the_daemon_is_told_to_read_its_settings_again():
    assert value(SERVICE, "ExecReload") == "/bin/sh -c 'kill -HUP ${MAINPID}'"  # a bare Debian has no kill(1)


def test_every_secret_can_be_a_credential_and_none_has_to_be():
    known = credential_names()
    loaded = [
        credential.split(":") for unit in (SERVICE, WORKER) for credential in values(unit, "LoadCredential")
    ]
    assert {known[name] for name, _ in loaded} == set(known.values())
    assert not [
        name
        for name, _ in loaded
        if name.startswith("worker.") and name in str(values(SERVICE, "LoadCredential"))
    ]
    # A name is looked for in /etc/credstore and may be missing; a missing absolute path fails the start.
    for name, source in loaded:
        assert source == f"econeura-{'worker' if name.startswith('worker.') else 'daemon'}.{name}"


def test_the_socket_is_where_the_daemon_would_listen_by_itself():
    assert values("econeura-daemon.socket", "ListenStream") == list(Settings().http.bind)


@pytest.mark.parametrize("unit", [SERVICE, WORKER, "econeura-daemon.socket"])
def test_a_unit_can_be_enabled(unit):
    assert values(unit, "WantedBy")
