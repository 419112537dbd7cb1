import re
import tomllib
from pathlib import Path

import attrs
import pytest

from econeura_daemon.core.settings import (
    HttpSettings,
    LogSettings,
    MeshSettings,
    Settings,
    StorageSettings,
    WebhookSettings,
)
from econeura_daemon.core.settings_layers import (
    INHERITED,
    credential_names,
    environment_layer,
    inherited_layer,
    secret_file_variables,
)
from econeura_daemon.core.settings_sources import Sources, effective
from econeura_daemon.core.settings_tree import (
    NEEDS_RESTART,
    all_settings,
    changes,
    find_setting,
    flatten,
    shown,
)
from econeura_daemon.core.structuring import structure_settings

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "config" / "econeura.toml"
VARIABLES = ROOT / "config" / "econeura.env"
REFERENCE = ROOT / "docs" / "configuration.md"

WITHOUT_DEFAULT = {
    "http.tls_certificate": "/etc/econeura/tls.crt",
    "http.tls_key": "/etc/econeura/tls.key",
    "discovery.advertised_host": "daemon.example.org",
    "webhooks.secret": "whsec_…",
    "webhooks.proxy": "http://proxy.example.org:3128",
    "webhooks.retry.max_attempts": 10,
    "webhooks.retry.delay_ms": 5000,
    "mesh.default.try_timeout_ms": 10000,
    "mesh.default.faults.abort_status": 503,
    "worker.token": "eco_…",
    "worker.instance_id": "workers-1",
    "worker.smtp_host": "mail.example.org",
    "worker.smtp_sender": "mails@example.org",
    "worker.smtp_user": "mails",
    "worker.smtp_password": "…",
}
"""What the shipped files show where the default is 'none'."""


def defaults() -> dict[str, object]:
    values = flatten(Settings(mesh={"default": MeshSettings()}))
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def uncommented(text: str) -> str:
    """Take '# ' from before every line that is a setting."""
    return re.sub(r"^# ([a-z0-9_]+ = .*)$", r"\1", text, flags=re.MULTILINE)


def leaves(node: dict[str, object], prefix: str = "") -> dict[str, object]:
    found = {}
    for key, value in node.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def test_the_shipped_file_lists_every_setting_with_its_default():
    listed = leaves(tomllib.loads(uncommented(SHIPPED.read_text())))
    allowed = listed.pop("webhooks.allowed_networks")
    assert allowed == ["127.0.0.0/8", "::1/128"]
    expected = defaults() | WITHOUT_DEFAULT
    del expected["webhooks.allowed_networks"]
    assert listed == expected


def test_the_shipped_file_as_it_is_allows_loopback_and_nothing_else():
    raw = tomllib.loads(SHIPPED.read_text())
    assert leaves(raw) == {"webhooks.allowed_networks": ["127.0.0.0/8", "::1/128"]}
    structure_settings(raw, Settings)


def test_any_one_line_of_the_shipped_file_that_is_uncommented_lands_in_its_section():
    text = SHIPPED.read_text()
    whole = leaves(tomllib.loads(uncommented(text)))
    seen = {}
    for setting in re.finditer(r"^# ([a-z0-9_]+ = .*)$", text, re.MULTILINE):
        changed = text[: setting.start()] + setting[1] + text[setting.end() :]
        seen |= leaves(tomllib.loads(changed))
    assert seen == whole


def test_the_shipped_file_marks_what_needs_a_restart():
    for block in SHIPPED.read_text().split("\n\n"):
        key = re.search(r"^(?:# )?([a-z_]+) = ", block, re.MULTILINE)
        if key is not None:
            names = [setting.name for setting in all_settings() if setting.path[-1] == key[1]]
            marked = "[restart]" in block
            assert any(name.startswith(NEEDS_RESTART) == marked for name in names), block


def test_the_shipped_variables_are_every_setting_with_its_default():
    lines = re.findall(r"^# ([A-Z0-9_]+)=(.*)$", VARIABLES.read_text(), re.MULTILINE)
    listed = dict(lines)
    assert len(listed) == len(lines)
    own = {name: text for name, text in listed.items() if name.startswith("ECONEURA__")}
    for variable in secret_file_variables():
        assert variable in listed
        own.pop(variable, None)
    layer = environment_layer(own)
    assert layer.all_flaws() == []
    values = leaves(layer.raw)
    assert values == defaults() | WITHOUT_DEFAULT
    assert set(INHERITED) <= set(listed)
    inherited = {name: text for name, text in listed.items() if name in INHERITED}
    assert inherited_layer(inherited, "workers").all_flaws() == []


def test_the_reference_names_every_setting_with_its_default():
    rows = dict(re.findall(r"^\| `([a-z0-9_.<>]+)` \| (.*?) \|", REFERENCE.read_text(), re.MULTILINE))
    expected = {}
    for setting in all_settings():
        default = setting.default
        if isinstance(default, tuple):
            text = "`[" + ", ".join(f'"{item}"' for item in default) + "]`"
        elif default is None:
            text = "none"
        else:
            text = f"`{str(default).lower() if isinstance(default, bool) else default}`"
        expected[setting.name.replace("*", "<type>")] = text
    expected["storage.url"] = "`sqlite:///{state_dir}/econeura.db`"
    expected["daemon.state_dir"] = (
        "`$STATE_DIRECTORY`, else `$XDG_STATE_HOME/econeura-daemon`, else `~/.local/state/econeura-daemon`"
    )
    assert rows == expected


def test_the_reference_names_every_inherited_variable_and_what_needs_a_restart():
    text = REFERENCE.read_text()
    for variable, name in INHERITED.items():
        assert re.search(rf"^\| `{variable}`.*`{re.escape(name.replace('*', '<type>'))}`", text, re.MULTILINE)
    for variable in secret_file_variables():
        assert f"`{variable}`" in text
    for name in credential_names():
        assert f"`{name}`" in text
    for name, rest in re.findall(r"^\| `([a-z0-9_.<>]+)` \|(.*)$", text, re.MULTILINE):
        assert ("*restart*" in rest) == name.startswith(NEEDS_RESTART), name


def test_what_the_reference_shows_of_an_error_is_what_is_said():
    text = REFERENCE.read_text()
    environ = {"HOME": "/h", "WEBHOOK_RETRY_DELAY": "soon"}
    file = "[http]\nbind = ['127.0.0.1:0']\n\nmax_body_byte = 4"
    with pytest.raises(Exception, match="mistakes") as caught:
        effective(Sources(environ=environ, file="econeura.toml", file_text=file))
    for line in str(caught.value).splitlines():
        assert line in text


def test_every_setting_is_found_by_its_path_and_named_by_its_variable():
    assert find_setting(("webhooks", "retry", "delay_ms")).variable == "ECONEURA__WEBHOOKS__RETRY__DELAY_MS"
    assert find_setting(("mesh", "mail", "retries")).default == 3
    assert find_setting(("mesh", "mail")) is None
    assert {setting.name for setting in all_settings() if setting.secret} == {
        "webhooks.secret",
        "webhooks.proxy",
        "storage.url",
        "worker.token",
        "worker.smtp_password",
    }


def test_changes_tell_what_a_reload_takes_over_and_what_waits_for_a_restart():
    old = Settings()
    new = attrs.evolve(
        old,
        log=LogSettings(level="debug"),
        http=HttpSettings(bind=("127.0.0.1:1",), max_body_bytes=4096),
        storage=StorageSettings(readers=8),
        webhooks=WebhookSettings(secret="x"),
        mesh={"mail": MeshSettings(retries=1)},
    )
    found = changes(old, new)
    assert found.live[:2] == ("log.level", "webhooks.secret")
    assert "mesh.mail.retries" in found.live
    assert found.on_restart == ("http.bind", "http.max_body_bytes", "storage.readers")
    assert changes(new, new).live == changes(new, new).on_restart == ()
    assert "mesh.mail.retries" in changes(new, old).live


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:p@ss/w@h/d", "postgresql://u:***@h/d"),
        (
            "postgresql://u@h/d?password=p&sslpassword=q&x=1",
            "postgresql://u@h/d?password=***&sslpassword=***&x=1",
        ),
        ("sqlite:////var/lib/e.db", "sqlite:////var/lib/e.db"),
    ],
)
def test_a_database_is_shown_without_its_password(url, said):
    assert shown("storage.url", url) == said


def test_a_proxy_is_shown_without_its_password():
    assert shown("webhooks.proxy", "http://u:p@ss@h:1") == "http://u:***@h:1"
    assert shown("webhooks.proxy", None) is None


@pytest.mark.parametrize(
    ("key", "value", "flaw"),
    [
        ("proxy", "http://p:3128", None),
        ("proxy", "http://u:p%40w@[::1]:3128/", None),
        ("proxy", "http://u@p.example.org:1", None),
        ("proxy", "https://p:3128", "http://host:port"),
        ("proxy", "http://p", "http://host:port"),
        ("proxy", "http://p:0", "http://host:port"),
        ("proxy", "http://p:65536", "http://host:port"),
        ("proxy", "http://p:3128/path", "http://host:port"),
        ("proxy", "socks5://secret@p:1", "http://host:port"),
        ("http2_hosts", ["*", "*.example.org", "a.example.org", "192.0.2.1", "2001:db8::1"], None),
        ("http2_hosts", ["https://a.example.org"], "name"),
        ("proxy_hosts", ["a.*"], "name"),
        ("proxy_hosts", ["a.example.org:443"], "name"),
        ("proxy_hosts", [""], "name"),
    ],
)
def test_who_is_called_through_whom_is_checked(key, value, flaw):
    raw = {"webhooks": {key: value}}
    if flaw is None:
        structure_settings(raw, Settings)
        return
    with pytest.raises(Exception, match=flaw) as caught:
        structure_settings(raw, Settings)
    assert "secret" not in str(caught.value)


def test_a_secret_is_shown_as_stars_and_none_as_none():
    assert shown("webhooks.secret", "hunter2") == "***"
    assert shown("webhooks.secret", None) is None
    assert shown("http.bind", ("a:1",)) == ["a:1"]
