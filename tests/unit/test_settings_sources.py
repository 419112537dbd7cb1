from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econeura_daemon.core.errors import SettingsError
from econeura_daemon.core.locations import state_directory
from econeura_daemon.core.settings import Settings
from econeura_daemon.core.settings_sources import (
    SecretFile,
    Sources,
    effective,
    load_settings,
)

HOME = {"HOME": "/home/u"}


def settings_from(text: str = "", **environ: str) -> Settings:
    return effective(Sources(environ=HOME | environ, file="e.toml", file_text=text)).settings


def mistakes(text: str = "", **environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        settings_from(text, **environ)
    return [str(flaw) for flaw in caught.value.flaws]


def test_nothing_at_all_gives_the_defaults_and_says_where_state_lives():
    settings = settings_from()
    assert settings.http == Settings().http
    assert settings.daemon.state_dir == "/home/u/.local/state/econeura-daemon"
    assert settings.storage.url == "sqlite:////home/u/.local/state/econeura-daemon/econeura.db"


@pytest.mark.parametrize(
    ("environ", "directory"),
    [
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "XDG_STATE_HOME": "/x", "HOME": "/h"}, "/var/lib/a"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/econeura-daemon"),
        ({"XDG_STATE_HOME": "x", "HOME": "/h"}, "/h/.local/state/econeura-daemon"),
        ({"HOME": "/h"}, "/h/.local/state/econeura-daemon"),
        ({}, None),
    ],
)
def test_the_state_directory_is_systemds_then_the_users(environ, directory):
    assert state_directory(environ) == directory


def test_without_any_place_for_state_the_daemon_says_so():
    with pytest.raises(SettingsError, match="is not set, and neither"):
        effective(Sources(environ={}))


def test_a_relative_or_home_path_is_made_whole():
    sources = Sources(
        environ=HOME, file_text="[daemon]\nstate_dir = 'a/../state'", working_directory="/srv/x"
    )
    assert effective(sources).settings.daemon.state_dir == "/srv/x/state"
    assert settings_from("[daemon]\nstate_dir = '~/e'").daemon.state_dir == "/home/u/e"
    assert settings_from(ECONEURA__STORAGE__URL="sqlite:///{state_dir}/other.db").storage.url == (
        "sqlite:////home/u/.local/state/econeura-daemon/other.db"
    )


def test_later_sources_win_over_earlier():
    file = "[webhooks]\nsecret = 'file'\nmax_in_flight = 5\ntimeout_ms = 50\n"
    environ = {"WEBHOOK_SECRET": "inherited"}
    assert settings_from(file).webhooks.secret == "file"
    assert settings_from(file, **environ).webhooks.secret == "inherited"
    environ["ECONEURA__WEBHOOKS__SECRET"] = "own"
    environ["ECONEURA__WEBHOOKS__TIMEOUT_MS"] = "60"
    settings = settings_from(file, **environ)
    assert (settings.webhooks.secret, settings.webhooks.timeout_ms) == ("own", 60)
    assert settings.webhooks.max_in_flight == 5
    secrets = [
        SecretFile(setting="webhooks.secret", origin="WEBHOOK_SECRET_FILE", text="from a file\n"),
        SecretFile(setting="webhooks.secret", origin="credential webhooks.secret", text=" credential \r\n"),
    ]
    for count, secret in ((1, "from a file"), (2, " credential ")):
        sources = Sources(environ=HOME | environ, file_text=file, secrets=secrets[:count])
        assert effective(sources).settings.webhooks.secret == secret


def test_every_inherited_variable_sets_its_setting():
    settings = settings_from(
        SERVICE_DISCOVERY_ENABLED="false",
        SERVICE_HEARTBEAT_INTERVAL="1000",
        SERVICE_HEALTH_CHECK_INTERVAL="2000",
        WEBHOOK_SECRET="s",
        WEBHOOK_RETRY_MAX_ATTEMPTS="7",
        WEBHOOK_RETRY_DELAY="300",
        WORKERS_SERVICE_TYPE="mail",
        WORKERS_TIMEOUT="400",
        WORKERS_RETRIES="2",
        WORKERS_CIRCUIT_BREAKER_THRESHOLD="9",
        DATABASE_URL="postgresql://u@h/d",
    )
    assert not settings.discovery.enabled
    assert settings.discovery.heartbeat_interval_ms == 1000
    assert settings.discovery.health_check_interval_ms == 2000
    assert settings.webhooks.secret == "s"
    assert (settings.webhooks.retry.max_attempts, settings.webhooks.retry.delay_ms) == (7, 300)
    mail = settings.mesh_of("mail")
    assert (mail.timeout_ms, mail.retries, mail.circuit_breaker_threshold) == (400, 2, 9)
    assert settings.workers.service_type == "mail"
    assert settings.storage.url == "postgresql://u@h/d"


def test_the_workers_variables_follow_the_service_type_wherever_it_is_said():
    assert settings_from("[workers]\nservice_type = 'a'", WORKERS_RETRIES="1").mesh_of("a").retries == 1
    environ = {"ECONEURA__WORKERS__SERVICE_TYPE": "b", "WORKERS_SERVICE_TYPE": "c", "WORKERS_RETRIES": "1"}
    assert list(settings_from(**environ).mesh) == ["b"]


def test_an_empty_inherited_variable_counts_as_not_set():
    assert settings_from(WEBHOOK_SECRET="", DATABASE_URL="", WORKERS_TIMEOUT="") == settings_from()


def test_a_types_section_overrides_only_the_keys_that_it_names():
    settings = settings_from(
        "[mesh.default]\nretries = 1\ntimeout_ms = 100\n[mesh.mail]\ntimeout_ms = 200\n",
        ECONEURA__MESH__MAIL__BALANCER="p2c",
    )
    assert (settings.mesh_of("mail").retries, settings.mesh_of("mail").timeout_ms) == (1, 200)
    assert settings.mesh_of("mail").balancer == "p2c"
    assert settings.mesh_of("other").retries == 1
    assert Settings().mesh_of("other").retries == 3


def test_faults_and_allow_lists_are_read_from_file_and_variables():
    settings = settings_from(
        "[mesh.default.faults]\npercent = 10\ndelay_ms = 5\n[mesh.mail.faults]\nabort_status = 503\n",
        ECONEURA__MESH__MAIL__FAULTS__PERCENT="2.5",
        ECONEURA__MESH__MAIL__ALLOW="GET /health, POST /emails/*",
    )
    faults = settings.mesh_of("mail").faults
    assert (faults.percent, faults.delay_ms, faults.abort_status, faults.drop) == (2.5, 5, 503, False)
    assert settings.mesh_of("mail").allow == ("GET /health", "POST /emails/*")
    assert settings.mesh_of("other").faults.percent == 10
    assert settings.mesh_of("other").allow == ("* /*",)


def test_faults_and_allow_lists_that_do_not_fit_are_mistakes():
    text = "[mesh.mail]\nallow = ['health']\n[mesh.mail.faults]\ndrop = true\nabort_status = 503\n"
    found = mistakes(
        text, ECONEURA__MESH__MAIL__FAULTS__PERCENT="many", ECONEURA__MESH__MAIL__FAULT__DROP="1"
    )
    entry = "expected a method or *, and a path, such as 'GET /health' or 'POST /emails/*', got 'health'"
    assert set(found) == {
        f"e.toml:2: mesh.mail.allow[0]: {entry}",
        "e.toml:3: mesh.mail.faults: a call is either dropped or aborted with a status",
        "ECONEURA__MESH__MAIL__FAULTS__PERCENT: expected a number, got 'many'",
        "ECONEURA__MESH__MAIL__FAULT__DROP: no such setting; did you mean 'ECONEURA__MESH__MAIL__FAULTS__DROP'?",
    }
    both = mistakes("[mesh.mail.faults]\ndrop = true\n", ECONEURA__MESH__MAIL__FAULTS__ABORT_STATUS="503")
    assert both == ["$.mesh.mail.faults: a call is either dropped or aborted with a status"]


def test_variables_are_read_as_what_the_setting_holds():
    settings = settings_from(
        ECONEURA__HTTP__BIND="127.0.0.1:0, unix:/run/e.sock",
        ECONEURA__HTTP__ALLOWED_HOSTS="",
        ECONEURA__AUTH__REQUIRED="Yes",
        ECONEURA__WEBHOOKS__ALLOWED_NETWORKS="10.0.0.0/8,::1/128",
        ECONEURA__WEBHOOKS__RETRY__DELAY_MS="5",
    )
    assert settings.http.bind == ("127.0.0.1:0", "unix:/run/e.sock")
    assert settings.http.allowed_hosts == ()
    assert settings.auth.required
    assert settings.webhooks.allowed_networks == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert settings.webhooks.retry.delay_ms == 5


def test_every_mistake_of_every_source_is_told_with_its_place():
    file = """
[http]
bind = "x"                      # a text, not a list
max_body_byte = 4
[webhooks]
allowed_networks = [
  "127.0.0.0/8",
  "a",
]
retry = {max_attempts = 0}
note.'a b' = \"\"\"
[log]
level = "none"
\"\"\"
[log]
level = "inf"
[mesh."my api"]
retries = 1
[auht]
"""
    environ = {
        "WORKERS_TIMEOUT": "x",
        "WEBHOOK_RETRY_DELAY": "0",
        "ECONEURA__HTTP__BIND": "127.0.0.1:3001",
        "ECONEURA__HTTP__BND": "1",
        "ECONEURA__AUTH__REQUIRED": "si",
        "ECONEURA__HTTP__BIND_FILE": "/x",
        "ECONEURA__MESH__MAIL__RETRYS": "1",
        "ECONEURA__http__bind": "x",
        "ECONEURA__": "x",
        "ECONEURA__WEBHOOKS": "x",
    }
    assert mistakes(file, **environ) == [
        "e.toml:3: http.bind: expected a list, got the string 'x'",
        "e.toml:4: http.max_body_byte: unknown key; did you mean 'max_body_bytes'?",
        (
            "e.toml:6: webhooks.allowed_networks[1]: expected a network such as 10.0.0.0/8: "
            "'a' does not appear to be an IPv4 or IPv6 network"
        ),
        "e.toml:10: webhooks.retry.max_attempts: expected 1 to 100, got the number 0",
        (
            "e.toml:11: webhooks.note: unknown key; the keys are secret, allowed_networks, max_in_flight, "
            "subscription_max_in_flight, timeout_ms, connect_timeout_ms, http2_hosts, proxy, proxy_hosts, "
            "tolerance_ms, lease_ms, retry"
        ),
        (
            "e.toml:16: log.level: expected 'debug', 'info', 'warning' or 'error', got 'inf'; "
            "did you mean 'info'?"
        ),
        "e.toml:19: auht: unknown key; did you mean 'auth'?",
        (
            "e.toml:17: mesh: expected 1 to 64 of a-z, 0-9, _ and -, beginning with a letter or digit, "
            "got 'my api'"
        ),
        "WORKERS_TIMEOUT: expected an integer, got 'x'",
        "WEBHOOK_RETRY_DELAY: expected 1 to 86400000, got the number 0",
        "ECONEURA__: no such setting",
        "ECONEURA__AUTH__REQUIRED: expected true or false, got 'si'",
        (
            "ECONEURA__HTTP__BIND_FILE: only secrets can be read from a file: WEBHOOK_SECRET_FILE, "
            "DATABASE_URL_FILE, ECONEURA__STORAGE__URL_FILE, ECONEURA__WEBHOOKS__SECRET_FILE, "
            "ECONEURA__WEBHOOKS__PROXY_FILE, ECONEURA__WORKER__TOKEN_FILE, "
            "ECONEURA__WORKER__SMTP_PASSWORD_FILE"
        ),
        "ECONEURA__HTTP__BND: no such setting; did you mean 'ECONEURA__HTTP__BIND'?",
        "ECONEURA__MESH__MAIL__RETRYS: no such setting; did you mean 'ECONEURA__MESH__MAIL__RETRIES'?",
        "ECONEURA__WEBHOOKS: no such setting; did you mean 'ECONEURA__WEBHOOKS__PROXY'?",
        "ECONEURA__http__bind: no such setting; did you mean 'ECONEURA__HTTP__BIND'?",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = 1\nb = \nc = 3", "e.toml:2: not valid TOML: invalid value"),
        ("[log]\nlevel='info'\nlevel='info'\n", "e.toml:3: not valid TOML: cannot overwrite a value"),
        ("a = '", "e.toml: not valid TOML: "),
        ("a = " + "[" * 100_000, "e.toml: not valid TOML: nested too deeply"),
    ],
)
def test_a_file_that_is_no_toml_is_told_with_its_line(text, said):
    (flaw,) = mistakes(text)
    assert flaw.startswith(said)


@pytest.mark.parametrize("bind", ["localhost", "::1:3001", "127.0.0.1:port", "unix:", "fd://x", ""])
def test_a_bind_that_is_none_is_refused(bind):
    assert "host:port" in mistakes(f"[http]\nbind = ['{bind}']")[0]


@pytest.mark.parametrize("bind", ["localhost:0", "[::1]:3001", "unix:/a b", "fd://3"])
def test_a_bind_may_take_each_form(bind):
    assert settings_from(f"[http]\nbind = ['{bind}']").http.bind == (bind,)


SECRET = "hunter2" * 30


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        (f"[webhooks]\nsecret = ['{SECRET}']", {}),
        (f"[webhooks]\nsekret = '{SECRET}'", {}),
        (f"[storage]\nurl = 'mysql://u:{SECRET}@h'", {}),
        ("", {"DATABASE_URL": f"mysql://u:{SECRET}@h"}),
        ("", {"WEBHOOK_SECRET": SECRET * 100}),
        ("", {"ECONEURA__WEBHOOKS__SECRETT": SECRET}),
    ],
)
def test_a_secret_stands_in_no_message_and_no_repr(text, environ):
    assert "hunter" not in str(mistakes(text, **environ))
    sources = Sources(environ=HOME | environ, file_text=text, secrets=[])
    assert "hunter" not in repr(sources)
    assert "hunter" not in repr(
        settings_from(WEBHOOK_SECRET=SECRET, DATABASE_URL=f"postgresql://u:{SECRET}@h")
    )
    assert "hunter" not in repr(SecretFile(setting="webhooks.secret", origin="x", text=SECRET))


def test_what_a_secret_should_have_been_is_said_without_it():
    (said,) = mistakes(DATABASE_URL="mysql://u:hunter2@h")
    assert said == "DATABASE_URL: expected sqlite:///PATH or postgresql://…"


def test_origins_say_where_each_setting_was_written():
    found = effective(
        Sources(
            environ=HOME | {"WORKERS_TIMEOUT": "5"},
            file="e.toml",
            file_text="[mesh.default]\nretries = 1\n[webhooks]\nretry.delay_ms = 7\n",
        )
    )
    assert found.origins == {
        "webhooks.retry.delay_ms": "e.toml:4",
        "mesh.default.retries": "e.toml:2",
        "mesh.workers.timeout_ms": "WORKERS_TIMEOUT",
        "mesh.workers.retries": "e.toml:2",
    }


# --- reading


def test_a_named_file_that_is_missing_is_a_mistake(tmp_path):
    missing = str(tmp_path / "no.toml")
    for path, environ in ((missing, HOME), (None, HOME | {"ECONEURA_CONFIG": missing})):
        with pytest.raises(SettingsError, match=r"no\.toml: there is no such file"):
            load_settings(path, environ)


def test_the_named_file_wins_over_the_variable(tmp_path):
    named, other = tmp_path / "named.toml", tmp_path / "other.toml"
    named.write_text("\ufefflog.level = 'debug'\n")
    other.write_text("log.level = 'error'\n")
    environ = HOME | {"ECONEURA_CONFIG": str(other)}
    assert load_settings(str(named), environ).settings.log.level == "debug"
    assert load_settings(None, environ).settings.log.level == "error"


def test_mistakes_of_file_and_environment_come_together(tmp_path):
    (tmp_path / "e.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(SettingsError) as caught:
        load_settings(str(tmp_path / "e.toml"), HOME | {"ECONEURA__X": "1"})
    assert [str(flaw) for flaw in caught.value.flaws] == [
        f"{tmp_path}/e.toml: cannot be read: it is not UTF-8",
        "ECONEURA__X: no such setting",
    ]


def test_secrets_come_from_files_and_credentials(tmp_path):
    (tmp_path / "hook").write_text("one\n")
    (tmp_path / "url").write_text("postgresql://u:p@h/d\n")
    environ = HOME | {
        "WEBHOOK_SECRET": "zero",
        "WEBHOOK_SECRET_FILE": str(tmp_path / "hook"),
        "DATABASE_URL_FILE": str(tmp_path / "url"),
    }
    empty = tmp_path / "empty.toml"
    empty.touch()
    found = load_settings(str(empty), environ)
    assert found.settings.webhooks.secret == "one"
    assert found.settings.storage.url == "postgresql://u:p@h/d"
    assert found.origins["webhooks.secret"] == f"WEBHOOK_SECRET_FILE ({tmp_path}/hook)"
    environ["ECONEURA__WEBHOOKS__SECRET"] = "own"
    assert load_settings(str(empty), environ).settings.webhooks.secret == "one"
    (tmp_path / "own").write_text("own file\n")
    own_file = {"ECONEURA__WEBHOOKS__SECRET_FILE": str(tmp_path / "own")}
    assert load_settings(str(empty), environ | own_file).settings.webhooks.secret == "own file"

    credentials = tmp_path / "credentials"
    credentials.mkdir()
    environ["CREDENTIALS_DIRECTORY"] = str(credentials)
    assert load_settings(str(empty), environ).settings.webhooks.secret == "one"
    (credentials / "WEBHOOK_SECRET").write_text("two")
    assert load_settings(str(empty), environ).settings.webhooks.secret == "two"
    (credentials / "webhooks.secret").write_text("three")
    found = load_settings(str(empty), environ)
    assert found.settings.webhooks.secret == "three"
    assert found.origins["webhooks.secret"] == "credential webhooks.secret"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"\n", "the file is empty"),
        (b"\xff\xfe", "cannot be read: it is not UTF-8"),
        (b"x" * 100_000, "the file is too large for a secret"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_secret_file_that_gives_none_is_a_mistake(tmp_path, content, said):
    if content is not None:
        (tmp_path / "s").write_bytes(content)
    (tmp_path / "e.toml").touch()
    environ = HOME | {"ECONEURA__WEBHOOKS__SECRET_FILE": str(tmp_path / "s")}
    with pytest.raises(SettingsError) as caught:
        load_settings(str(tmp_path / "e.toml"), environ)
    assert [str(flaw) for flaw in caught.value.flaws] == [
        f"ECONEURA__WEBHOOKS__SECRET_FILE ({tmp_path}/s): {said}"
    ]


_WORDS = st.sampled_from(["log", "level", "http", "bind", "mesh", "x", "webhooks", "retry", "secret", "a b"])
_VALUES = st.sampled_from(
    ["1", "'x'", "true", "[]", "[1]", "1.5", "nan", "2020-01-01", "{a = 1}", "12:00:00"]
)


@given(st.lists(st.tuples(st.lists(_WORDS, min_size=1, max_size=3), _VALUES), max_size=6), st.text())
def test_any_toml_gives_settings_or_mistakes(entries, variable):
    text = "\n".join(".".join(f'"{word}"' for word in key) + f" = {value}" for key, value in entries)
    try:
        assert settings_from(text, ECONEURA__MESH__X__RETRIES=variable, WORKERS_SERVICE_TYPE=variable)
    except SettingsError as refusal:
        assert refusal.flaws  # noqa: PT017 - either way is right


@given(st.text())
def test_any_text_as_a_file_gives_settings_or_mistakes(text):
    try:
        assert settings_from(text)
    except SettingsError as refusal:
        assert refusal.flaws  # noqa: PT017 - either way is right
