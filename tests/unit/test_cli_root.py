import errno
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from econeura_daemon._version import VERSION
from econeura_daemon.cli.arguments import Instant
from econeura_daemon.cli.exits import CommandError, Exit, command_error
from econeura_daemon.cli.lazy import LazyGroup
from econeura_daemon.cli.root import root, run
from econeura_daemon.core import errors

HEAVY = (
    "httpx",
    "quart",
    "sqlalchemy",
    "trio",
    "rich",
    "hypercorn",
    "cattrs",
    "attrs",
    "attr",
    "http.client",
    "ssl",
)


def commands(group=root, above=()):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        path = (*above, name)
        if isinstance(command, click.Group):
            yield from commands(command, path)
        else:
            yield path, command


ALL = dict(commands())


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from econeura_daemon.cli.root import run; run(['--help']); "
        "print([name for name in sys.modules if name in sys.argv[1].split()], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, " ".join(HEAVY)], capture_output=True, text=True, check=True
    )
    assert done.stderr == "[]\n"
    assert "Exit codes: 0 done, 1 failed" in done.stdout


def test_when_an_expression_is_due_is_told_without_a_store():
    code = (
        "import sys; from econeura_daemon.cli.root import run; run(['cron', 'next', '@daily']); "
        "print('sqlalchemy' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "False\n"
    assert "T00:00:00.000Z" in done.stdout


def test_help_costs_less_than_a_fifth_of_a_second_of_the_processor():
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}

    def cost() -> float:
        before = os.times()
        subprocess.run(
            [sys.executable, "-m", "econeura_daemon", "--help"],
            check=True,
            stdout=subprocess.DEVNULL,
            env=environ,
        )
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(cost() for _ in range(5)) < 0.2


def test_every_command_of_the_contract_is_there():
    assert {" ".join(path) for path in ALL} == {
        "serve",
        "worker",
        "config check",
        "cron add",
        "cron delete",
        "cron disable",
        "cron enable",
        "cron list",
        "cron run",
        "cron runs",
        "cron show",
        "config show",
        "cron next",
        "emails cancel",
        "emails job",
        "emails jobs",
        "emails list",
        "emails process",
        "events send",
        "events list",
        "events tail",
        "services list",
        "services show",
        "services register",
        "services drain",
        "services deregister",
        "services watch",
        "webhooks subscribe",
        "webhooks list",
        "webhooks show",
        "webhooks deliveries",
        "webhooks delete",
        "webhooks listen",
        "mesh calls",
        "mesh faults",
        "mesh show",
        "token create",
        "token list",
        "token revoke",
        "db migrate",
        "db check",
        "db backup",
        "db restore",
        "health",
        "status",
        "version",
    }


@pytest.mark.parametrize(
    "path", [path for path in ALL if path not in {("serve",), ("worker",)}], ids=" ".join
)
def test_every_command_takes_an_output_format(path):
    names = {name for parameter in ALL[path].params for name in parameter.opts}
    assert "--output" in names
    assert "-o" in names
    if path[0] in {"events", "webhooks", "health", "status"}:
        assert {"--url", "--token"} <= names
    if path[0] in {"config", "token", "db"}:
        assert "--config" in names


@pytest.mark.parametrize("path", [*ALL, (), ("events",), ("webhooks",), ("token",), ("db",)], ids=" ".join)
def test_every_command_explains_itself(path, capsys):
    assert run([*path, "--help"]) == Exit.DONE
    assert "Usage: econeura-daemon" in capsys.readouterr().out


def test_the_list_of_commands_says_what_each_says_of_itself():
    def check(group):
        context = click.Context(group)
        for name, entry in group.lazy.items():
            command = group.get_command(context, name)
            said = command.get_short_help_str(200)
            assert said.startswith(entry.help.rstrip(".")) or name in {"webhooks", "listen"}, name
            if isinstance(command, LazyGroup):
                check(command)

    check(root)


def test_without_a_command_help_is_shown_and_it_is_a_usage_error(capsys):
    assert run([]) == Exit.USAGE
    assert "Commands:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evnets"], "There is no command 'evnets'; did you mean 'events'?"),
        (["events", "snd"], "There is no command 'snd'; did you mean 'send'?"),
        (["events", "list", "--limt", "5"], "No such option"),
        (["events", "list", "--limit", "0"], "--limit"),
        (["events", "send"], "Missing argument 'TYPE'"),
        (["events", "send", "a", "--data", "{"], "not valid JSON"),
        (["events", "send", "a", "--data", "NaN"], "NaN is not JSON"),
        (["events", "send", "a", "--data", "@/nowhere"], "No such file"),
        (["events", "list", "--since", "yesterday"], "or a span such as 15m"),
        (["events", "list", "-o", "yaml"], "table"),
        (["webhooks", "subscribe", "http://x"], "--events"),
        (["webhooks", "subscribe", "http://x", "--events", ","], "expected at least one"),
        (["webhooks", "subscribe", "http://x", "--events", "a", "--secret", "@/nowhere"], "cannot be read"),
        (["webhooks", "subscribe", "http://x", "--events", "a", "--header", "x"], "expected NAME:VALUE"),
        (["webhooks", "listen", "--fail-rate", "2"], "--fail-rate"),
        (["webhooks", "listen", "--secret", "whsec_x"], "--secret"),
        (["health", "--url", "ftp://x"], "expected http://HOST:PORT"),
        (["health", "--token", "ä"], "printable ASCII"),
        (["token", "create", "x", "--scopes", "reed"], "expected read, publish, admin, got 'reed'"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_told_and_exits_with_2(arguments, said, capsys):
    assert run(arguments) == Exit.USAGE
    assert said in capsys.readouterr().err


def test_the_version_is_told_in_every_form(capsys):
    assert run(["--version"]) == Exit.DONE
    assert capsys.readouterr().out == f"econeura-daemon {VERSION}\n"
    assert run(["version", "-o", "jsonl"]) == Exit.DONE
    assert json.loads(capsys.readouterr().out)["version"] == VERSION


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (errors.SettingsError.at("a", "b"), 78, "The input does not fit\n  a: b"),
        (errors.InvalidInputError.at("$.a", "b"), 1, "The input does not fit\n  $.a: b"),
        (errors.NotFoundError("token", "x"), 3, "There is no token 'x'"),
        (errors.ConflictError("taken"), 6, "taken"),
        (errors.StateDirectoryHeldError("held"), 6, "held"),
        (errors.StoreCorruptError("damaged"), 1, "damaged"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 4, "/x: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 1, "/x: No space left on device"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_expected_errors_have_their_exit_code_and_a_sentence(error, code, said):
    found = command_error(error)
    assert (found.exit_code, found.format_message()) == (code, said)


def test_a_bug_is_shown_as_one(monkeypatch):
    assert command_error(ValueError("x")) is None
    monkeypatch.setitem(root.lazy, "version", root.lazy["version"]._replace(attribute="missing"))
    with pytest.raises(AttributeError):
        run(["version"])


def test_ctrl_c_is_quiet(monkeypatch, capsys):
    @click.command
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(root, "get_command", lambda _ctx, _name: interrupted)
    assert run(["version"]) == Exit.INTERRUPTED
    assert capsys.readouterr().err.strip() == ""


def test_what_passes_is_told_from_what_stays():
    assert CommandError(Exit.UNREACHABLE, "x").passing
    assert CommandError(Exit.FAILED, "x", status=503).passing
    assert not CommandError(Exit.FAILED, "x", status=400).passing


def test_a_span_is_behind_for_since_and_ahead_for_expires():
    now = time.time()
    from econeura_daemon.core.clock import parse_instant, to_ms

    assert to_ms(parse_instant(Instant().convert("2h", None, None))) / 1000 == pytest.approx(
        now - 7200, abs=5
    )
    assert to_ms(parse_instant(Instant(ahead=True).convert("3d", None, None))) / 1000 == pytest.approx(
        now + 259200, abs=5
    )
    assert Instant().convert("2026-11-24T03:00:00+01:00", None, None) == "2026-11-24T02:00:00.000Z"
    with pytest.raises(click.BadParameter, match="out of range"):
        Instant().convert("999999d", None, None)


def test_the_guide_lists_every_exit_code():
    guide = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", guide, re.MULTILINE)} == set(Exit)
