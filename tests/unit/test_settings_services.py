"""Static services as they are written down: what holds, what is wrong, and where it is told."""

import re
from pathlib import Path

import attrs
import pytest

from econeura_daemon.core.errors import SettingsError
from econeura_daemon.core.instances import CheckBody, CheckKind, EndpointBody
from econeura_daemon.core.settings import ServiceSettings, Settings
from econeura_daemon.core.settings_sources import Sources, effective
from econeura_daemon.core.settings_tree import changes, flatten, shown

ROOT = Path(__file__).parents[2]
LEAST = '[[services]]\ntype = "db"\nhost = "10.0.0.7"\nport = 5432\n'


def read(text, **environ):
    return effective(Sources(environ={"HOME": "/h", **environ}, file="e.toml", file_text=text))


def mistakes(text):
    with pytest.raises(SettingsError) as caught:
        read(text)
    return [str(flaw) for flaw in caught.value.flaws]


def test_a_service_says_what_a_registrant_may_say():
    (service,) = read(
        LEAST
        + 'id = "db-1"\nname = "The database"\nscheme = "postgresql"\nversion = "16"\ntags = ["main"]\n'
        + 'metadata = {zone = "a"}\nweight = 50\n'
        + '[services.check]\nkind = "tcp"\ninterval_ms = 200\n'
        + '[[services.endpoints]]\nendpoint = "/x"\nrequires_auth = true\n'
    ).settings.services
    assert service == ServiceSettings(
        type="db",
        host="10.0.0.7",
        port=5432,
        id="db-1",
        name="The database",
        scheme="postgresql",
        version="16",
        tags=("main",),
        metadata={"zone": "a"},
        weight=50,
        check=CheckBody(kind=CheckKind.TCP, interval_ms=200),
        endpoints=(EndpointBody(endpoint="/x", requires_auth=True),),
    )


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("10.0.0.7", "db-10.0.0.7-5432"),
        ("DB.Example.org.", "db-db.example.org-5432"),
        ("2001:DB8::1", "db-2001:db8::1-5432"),
        ("bücher.example", "db-xn--bcher-kva.example-5432"),
    ],
)
def test_an_id_that_is_not_given_is_made_of_what_does_not_change(host, key):
    assert ServiceSettings(type="db", host=host, port=5432).key == key


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services = 1", "e.toml:1: services: expected a list, got the number 1"),
        ("[services]\nid = 'a'", "e.toml:1: services: expected a list, got a table"),
        ("services = [1]", "e.toml:1: services[0]: expected a table, got the number 1"),
        (f"{LEAST}prot = 1", "e.toml:5: services[0].prot: unknown key; did you mean 'port'?"),
        (f"{LEAST}ttl_ms = 1", "e.toml:5: services[0].ttl_ms: unknown key; the keys are type, host, port, "),
        (f"\n{LEAST}\n[[services]]\ntype = 'x'\nhost = 'h'", "e.toml:7: services[1].port: is missing"),
        (LEAST.replace("5432", "0"), "e.toml:4: services[0].port: expected 1 to 65535, got the number 0"),
        (LEAST.replace("db", "faults"), "e.toml:2: services[0].type: 'faults' is reserved and no service"),
        (LEAST.replace("db", "D B"), "e.toml:2: services[0].type: expected 1 to 64 of a-z, 0-9, _ and -"),
        (LEAST.replace("10.0.0.7", "[::1]"), "e.toml:3: services[0].host: an IPv6 address stands here with"),
        (LEAST.replace("10.0.0.7", "http://a"), "e.toml:3: services[0].host: expected a name or an address"),
        (LEAST.replace("10.0.0.7", "10.1"), "e.toml:3: services[0].host: the host '10.1' is an address in a"),
        (LEAST.replace("10.0.0.7", "a b"), "e.toml:3: services[0].host: 'a b' is no part of a host name"),
        (LEAST.replace("10.0.0.7", ""), "e.toml:3: services[0].host: expected a name or an address alone"),
        (f"{LEAST}id = 'a b'", "e.toml:5: services[0].id: expected 1 to 128 of A-Z, a-z, 0-9, '_', '.', ':'"),
        (
            f"{LEAST}id = 'api-main'",
            "e.toml:5: services[0].id: the id 'api-main' is that of the daemon's own",
        ),
        (
            f"{LEAST}resolve = true",
            "e.toml:5: services[0].resolve: only a name can be resolved, and '10.0.0.",
        ),
        (
            f"{LEAST}metadata = {{d = 2026-01-01}}",
            "e.toml:5: services[0].metadata: expected what JSON can hold",
        ),
        (
            f"{LEAST}metadata = {'{a=' * 64}1{'}' * 64}",
            "e.toml:5: services[0].metadata: nested deeper than 63 levels",
        ),
        (f"{LEAST}metadata.n = nan", "e.toml:5: services[0].metadata: expected what JSON can hold"),
        (f"{LEAST}weight = 0", "e.toml:5: services[0].weight: expected 1 to 10000, got the number 0"),
        (
            f"{LEAST}tags = ['a', 'b,c']",
            "e.toml:5: services[0].tags[1]: expected 1 to 128 characters, no com",
        ),
        (
            f"{LEAST}[services.check]\nkind = 'tpc'",
            "e.toml:6: services[0].check.kind: expected 'http' or 'tcp', got the string 'tpc'",
        ),
        (f"{LEAST}check.path = 'x'", "e.toml:5: services[0].check.path: expected a path that begins with /"),
        (
            f"{LEAST}check.interval_ms = 99",
            "e.toml:5: services[0].check.interval_ms: expected 100 to 3600000",
        ),
        (
            f"{LEAST}[[services.endpoints]]\nendpoint = '/a'\n[[services.endpoints]]\nmethod = 'get'",
            "e.toml:8: services[0].endpoints[1].method: expected a method in capitals, such as GET, got 'get'",
        ),
        (
            LEAST + LEAST,
            "e.toml:5: services[1].id: the id 'db-10.0.0.7-5432' (made of type, host and port) is that of",
        ),
        (
            f"{LEAST}id = 'a'\n[log]\n{LEAST}id = 'a'",
            "e.toml:11: services[1].id: the id 'a' is that of services[0] already",
        ),
        (
            LEAST.replace("10.0.0.7", ".".join(["a" * 60] * 3)),
            "e.toml:1: services[0].id: an id is needed: with it, 'db-aaa",
        ),
        (
            f"{LEAST.replace('10.0.0.7', 'h')}resolve = true\nid = '{'a' * 90}'",
            "e.toml:6: services[0].id: a shorter id is needed: with it, 'aaa",
        ),
        ("[discovery]\nservice_type = 'default'", "e.toml:2: discovery.service_type: 'default' is reserved"),
        ("[workers]\nservice_type = 'calls'", "e.toml:2: workers.service_type: 'calls' is reserved"),
        (
            "[discovery]\nadvertised_host = 'a:1'",
            "e.toml:2: discovery.advertised_host: expected a host without a port, got 'a:1'",
        ),
        (
            "[discovery]\nheartbeat_interval_ms = 99",
            "e.toml:2: discovery.heartbeat_interval_ms: expected 100 to",
        ),
        (
            "[discovery]\nhealth_check_interval_ms = 0",
            "e.toml:2: discovery.health_check_interval_ms: expected",
        ),
        (
            "[discovery]\nmax_probes = 0",
            "e.toml:2: discovery.max_probes: expected 1 to 10000, got the number 0",
        ),
        (
            "[discovery]\nenabled = 'no'",
            "e.toml:2: discovery.enabled: expected true or false, got the string",
        ),
        (
            "[discovery]\nhearbeat_interval_ms = 1",
            "e.toml:2: discovery.hearbeat_interval_ms: unknown key; did you",
        ),
        ("[discovery]\nresolve_interval_ms = 1", "e.toml:2: discovery.resolve_interval_ms: expected 100 to"),
    ],
)
def test_what_is_wrong_is_told_with_file_line_table_and_key(text, said):
    assert any(flaw.startswith(said) for flaw in mistakes(text)), mistakes(text)


def test_all_mistakes_of_all_services_are_told_at_once():
    assert len(mistakes(LEAST.replace("5432", "0") + LEAST.replace("db", "") + "weight = 'x'")) == 3


def test_a_variable_cannot_declare_a_service():
    with pytest.raises(SettingsError, match="ECONEURA__SERVICES: no such setting"):
        read("", ECONEURA__SERVICES="x")


def test_a_service_is_shown_by_its_id_with_where_it_was_written():
    found = read(LEAST + '\n[[services]]\ntype = "web"\nhost = "::1"\nport = 80\nid = "web.1"\n')
    named = ServiceSettings(type="web", host="web.example", port=80, resolve=True)
    assert shown("services.web", named) == "web at http://web.example:80, each address of it"
    values = flatten(found.settings)
    assert shown("services.web.1", values["services.web.1"]) == "web at http://[::1]:80"
    assert (
        shown("services.db-10.0.0.7-5432", values["services.db-10.0.0.7-5432"])
        == "db at http://10.0.0.7:5432"
    )
    assert found.origins["services.web.1"] == "e.toml:6"


def test_a_reload_tells_which_services_changed():
    one, two = (ServiceSettings(type="db", host=host, port=1, id=host) for host in ("a", "b"))
    heavier = attrs.evolve(one, weight=7)
    found = changes(Settings(services=(one, two)), Settings(services=(heavier,)))
    assert found.live == ("services.a", "services.b")
    assert found.on_restart == ()


def test_the_examples_of_the_reference_are_right():
    text = (ROOT / "docs" / "configuration.md").read_text()
    found = read("".join(re.findall(r"```toml\n(.*?)```", text, re.DOTALL))).settings
    assert "POST /emails/*" in found.mesh["workers"].allow
    assert found.mesh["workers"].faults.percent == 5
    assert [one.key for one in found.services] == [
        "db-main",
        "workers-workers.internal-4001",
    ]


def test_the_shipped_file_shows_every_key_of_a_service_with_its_default():
    _, _, text = (ROOT / "config" / "econeura.toml").read_text().partition("# Static services")
    example = "\n".join(re.findall(r"^#   (.*)$", text, re.MULTILINE))
    (service,) = read(example).settings.services
    least = ServiceSettings(type="db", host="db.example.org", port=5432)
    assert service == attrs.evolve(
        least, id=least.key, name=least.key, version="16", check=CheckBody(interval_ms=30_000)
    )
    keys = set(re.findall(r"^#   ([a-z_]+) = ", text, re.MULTILINE))
    fields = {field.name for cls in (ServiceSettings, CheckBody) for field in attrs.fields(cls)}
    assert keys == fields - {"check"}
