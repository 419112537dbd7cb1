"""The commands that need no daemon: configuration, tokens, database."""

import contextlib
import json
import sqlite3
import stat

import pytest

from econeura_daemon.cli.exits import Exit
from econeura_daemon.cli.root import run


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """A home of the test's own, without any configuration."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (
        "STATE_DIRECTORY",
        "XDG_STATE_HOME",
        "CREDENTIALS_DIRECTORY",
        "DATABASE_URL",
        "WEBHOOK_SECRET",
    ):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "e.toml"
    config.write_text("")
    monkeypatch.setenv("ECONEURA_CONFIG", str(config))
    return tmp_path


def printed(capsys, *arguments, code=Exit.DONE):
    """Run a command with ``-o jsonl`` and return what it printed."""
    assert run([*arguments, "-o", "jsonl"]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# --- config


def test_a_right_configuration_is_said_to_be_right(capsys, home):
    assert run(["config", "check"]) == Exit.DONE
    assert capsys.readouterr().out == "The configuration is right: nothing is given, all is default.\n"
    (home / "e.toml").write_text("log.level = 'debug'")
    assert run(["config", "check"]) == Exit.DONE
    assert capsys.readouterr().out == "The configuration is right: 1 given.\n"
    assert printed(capsys, "config", "check") == [{"ok": True, "given": 1}]


@pytest.mark.parametrize(
    "arguments",
    [
        ["config", "check"],
        ["config", "show"],
        ["token", "list"],
        ["token", "create", "x", "--scopes", "read"],
        ["db", "check"],
        ["db", "migrate"],
        ["db", "backup", "/nowhere/x"],
        ["db", "restore", "--yes", "/nowhere/x"],
    ],
    ids=" ".join,
)
def test_a_wrong_configuration_is_told_by_every_command_that_needs_it(arguments, capsys, home):
    other = home / "other.toml"
    other.write_text("[log]\nlevel = 'loud'\nfromat = 'json'\n")
    assert run([*arguments, "--config", str(other)]) == Exit.BAD_CONFIGURATION
    said = capsys.readouterr().err
    assert "The configuration has 2 mistakes" in said
    assert f"{other}:3: log.fromat: unknown key; did you mean 'format'?" in said


def test_settings_are_shown_with_their_source_and_without_secrets(capsys, home, monkeypatch):
    (home / "e.toml").write_text("[http]\nbind = ['127.0.0.1:0']\n")
    monkeypatch.setenv("WEBHOOK_SECRET", "hunter2")
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hunter2@h/d")
    rows = {row["setting"]: row for row in printed(capsys, "config", "show")}
    assert rows["http.bind"] == {
        "setting": "http.bind",
        "value": ["127.0.0.1:0"],
        "source": f"{home}/e.toml:2",
    }
    assert (rows["webhooks.secret"]["value"], rows["webhooks.secret"]["source"]) == ("***", "WEBHOOK_SECRET")
    assert rows["storage.url"]["value"] == "postgresql://u:***@h/d"
    assert rows["log.level"]["source"] == "default"
    changed = printed(capsys, "config", "show", "--changed")
    assert [row["setting"] for row in changed] == ["http.bind", "storage.url", "webhooks.secret"]
    for form in ("table", "json"):
        run(["config", "show", "-o", form])
        assert "hunter2" not in capsys.readouterr().out


# --- token


def test_a_token_is_made_listed_and_revoked(capsys, home):
    (made,) = printed(capsys, "token", "create", "shop", "--scopes", "read, publish", "--expires", "30d")
    assert made["token"].startswith("eco_")
    state = home / ".local/state/econeura-daemon"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert made["token"] not in (state / "tokens.json").read_text()
    (listed,) = printed(capsys, "token", "list")
    assert listed == {key: value for key, value in made.items() if key != "token"}
    assert listed["scopes"] == ["publish", "read"]
    assert run(["token", "create", "shop", "--scopes", "read"]) == Exit.CONFLICT
    assert run(["token", "revoke", made["id"]]) == Exit.DONE
    assert run(["token", "revoke", "shop"]) == Exit.NOT_FOUND
    capsys.readouterr()
    assert printed(capsys, "token", "list") == []


def test_only_the_token_itself_goes_to_the_end_of_standard_output(capsys):
    assert run(["token", "create", "x", "--scopes", "admin"]) == Exit.DONE
    out = capsys.readouterr().out.splitlines()
    assert out[-1].startswith("eco_")


def test_revoking_where_nothing_is_says_so(capsys):
    assert run(["token", "revoke", "x"]) == Exit.NOT_FOUND
    assert "There is no token 'x'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["x", "--scopes", "read", "--expires", "2020-01-01T00:00:00Z"], ["", "--scopes", "read"]]
)
def test_a_token_that_cannot_be_is_refused(arguments, capsys):
    assert run(["token", "create", *arguments]) == Exit.FAILED


def test_a_damaged_file_of_tokens_is_told(capsys, home):
    state = home / ".local/state/econeura-daemon"
    state.mkdir(parents=True)
    (state / "tokens.json").write_text("{")
    assert run(["token", "list"]) == Exit.BAD_CONFIGURATION
    assert "tokens.json: is damaged" in capsys.readouterr().err


# --- db


def test_a_database_is_made_checked_copied_and_put_back(capsys, home):
    (versions,) = printed(capsys, "db", "migrate")
    assert versions["from"] == 0
    assert versions["to"] > 0
    assert run(["db", "migrate"]) == Exit.DONE
    assert f"up to date, at version {versions['to']}" in capsys.readouterr().out
    (report,) = printed(capsys, "db", "check")
    assert (report["version"], report["flaws"]) == (versions["to"], [])
    copy = home / "copy.db"
    (written,) = printed(capsys, "db", "backup", str(copy))
    assert written == {"target": str(copy), "bytes": copy.stat().st_size}
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert run(["db", "backup", str(copy)]) == Exit.CONFLICT
    assert run(["db", "restore", "--yes", str(copy)]) == Exit.DONE
    assert "What was there before is kept:" in capsys.readouterr().out
    (home / "copy2").write_bytes(copy.read_bytes())
    (home / ".local/state/econeura-daemon/econeura.db").unlink()
    assert printed(capsys, "db", "restore", "--yes", str(home / "copy2"))[0]["kept"] is None


def test_a_damaged_database_fails_the_check(capsys, home):
    run(["db", "migrate"])
    file = home / ".local/state/econeura-daemon/econeura.db"
    with contextlib.closing(sqlite3.connect(file)) as driver:
        driver.executescript(
            "PRAGMA journal_mode = DELETE; CREATE TABLE t (x UNIQUE); INSERT INTO t VALUES ('needle');"
        )
    table, _, index = file.read_bytes().partition(b"needle")
    file.write_bytes(table + b"noodle" + index)  # the index knows it by its old name
    capsys.readouterr()
    assert run(["db", "check"]) == Exit.FAILED
    assert "is damaged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["db", "check"], "There is no file"),
        (["db", "backup", "copy"], "There is no file"),
        (["db", "restore", "--yes", "/nowhere/copy"], "There is no file"),
    ],
    ids=" ".join,
)
def test_a_database_that_is_not_there_is_told(arguments, said, capsys, home, monkeypatch):
    monkeypatch.chdir(home)
    assert run(arguments) == Exit.FAILED
    assert said in capsys.readouterr().err
