"""URLs and headers that a stranger may configure."""

from ipaddress import ip_network

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from econeura_daemon.wire.egress import EgressGuard
from econeura_daemon.wire.targets import MAX_HEADERS, check_headers, check_url

GOOD = [
    "http://example.com", "https://example.com/hook?x=1&y=%20", "HTTPS://EXAMPLE.com:8443/a", "http://a_b.example/",
    "http://example.com./", "http://127.0.0.1:9999/hook", "http://[::1]:9999/", "https://bücher.example/straße",
    "https://xn--bcher-kva.example/", "http://localhost:1/", "http://3com.example/", "http://example.com:65535/",
    "http://example.com:/", "http://a.b.c.d.e/", "http://1.2.3.4.example/",
]  # fmt: skip
BAD = [
    ("", "http://"),
    ("example.com/hook", "http://"),
    ("ftp://example.com/", "http://"),
    ("file:///etc/passwd", "http://"),
    ("gopher://127.0.0.1:6379/_x", "http://"),
    ("javascript:alert(1)", "http://"),
    ("http:///path", "no host"),
    ("http://:80/", "no host"),
    ("http://user@example.com/", "user name"),
    ("http://user:secret@example.com/", "user name"),
    ("http://example.com@127.0.0.1/", "user name"),
    ("http://example.com/#top", "fragment"),
    ("http://example.com/#", "fragment"),
    ("http://example.com:0/", "port"),
    ("http://example.com:65536/", "port"),
    ("http://example.com:99999999999999999999/", "port"),
    ("http://example.com:-1/", "port"),
    ("http://example.com:8٣/", "port"),
    ("http://example.com:http/", "port"),
    ("http://[::1]:x/", "port"),
    ("http://2130706433/", "unusual form"),
    ("http://0x7f000001/", "unusual form"),
    ("http://0x7f.1/", "unusual form"),
    ("http://0X7F.0.0.0x1/", "unusual form"),
    ("http://0177.0.0.1/", "unusual form"),
    ("http://127.1/", "unusual form"),
    ("http://127.0.0.1./", "unusual form"),
    ("http://0/", "unusual form"),
    ("http://127.0.0.01/", "unusual form"),
    ("http://127.0.0.256/", "unusual form"),
    ("http://1.2.3/", "unusual form"),
    ("http://foo.0x/", "unusual form"),
    ("http://\uff11\uff12\uff17.0.0.1/", ""),
    ("http://127。0。0。1/", ""),
    ("http://①②⑦.0.0.1/", ""),
    ("http://[::ffff:127.0.0.1/", "not a URL"),
    ("http://[fe80::1%25eth0]/", ""),
    ("http://[fe80::1%eth0]/", "interface"),
    ("http://[v1.fe80::a]/", ""),
    ("http://[127.0.0.1]/", ""),
    ("http://example.com%00.evil.example/", "host name"),
    ("http://exa%6dple.com/", "host name"),
    ("http://-a.example/", "host name"),
    ("http://a..b/", "host name"),
    ("http://./", "host name"),
    ("http://" + "a" * 64 + ".example/", "host name"),
    ("http://" + "a." * 130 + "example/", "253"),
    ("http://*.example.com/", "host name"),
    ("http://a,b.example/", "host name"),
    ("http://\u00ad.example/", ""),
    ("http://XN--0/", "IDNA"),
    ("http://a.xn--a.example/", "IDNA"),
    ("http://exam ple.com/", "does not belong"),
    (" http://example.com/", "does not belong"),
    ("http://example.com/\r\nX-Evil: 1", "does not belong"),
    ("http://example.com/\n", "does not belong"),
    ("ht\ttp://example.com/", "does not belong"),
    ("http://example.com\\@127.0.0.1/", "does not belong"),
    ("http://example.com/\x00", "does not belong"),
    ("http://example.com/\x7f", "does not belong"),
    ("http://example.com/\u2028", "does not belong"),
    ("http://example.com/\ud800", "does not belong"),
    ("http://example.com/" + "a" * 2048, "2048"),
]


@pytest.mark.parametrize("url", GOOD)
def test_ordinary_urls_have_no_flaw(url):
    assert check_url(url) == []


@pytest.mark.parametrize(("url", "expected"), BAD)
def test_a_flawed_url_is_told_its_flaw(url, expected):
    flaws = check_url(url)
    assert any(expected in flaw.message for flaw in flaws), flaws
    assert all(flaw.path == "$.url" for flaw in flaws)


def test_all_flaws_are_told_at_once():
    messages = [flaw.message for flaw in check_url("ftp://me@0x7f.1:0/#a")]
    assert len(messages) == 5


def test_a_guard_judges_literal_addresses_at_once_and_names_later():
    guard = EgressGuard([ip_network("127.0.0.0/8")])
    assert check_url("http://127.0.0.1/", guard) == []
    assert "private" in check_url("http://10.0.0.1/", guard)[0].message
    assert "loopback" in check_url("http://[::1]/", guard)[0].message
    assert check_url("http://localhost/", guard) == []
    assert check_url("http://[::ffff:127.0.0.1]/", guard) == []


hosts = st.one_of(
    st.text("abz019.-_x%@[]:", max_size=20),
    st.text(max_size=10),
    st.ip_addresses().map(lambda one: f"[{one}]" if one.version == 6 else str(one)),
    st.lists(st.sampled_from(["0x7f", "127", "0177", "1", "a", "xn--a", "é"]), max_size=4).map(".".join),
)


@given(
    st.one_of(
        st.text(), st.builds("http://{}{}".format, hosts, st.sampled_from(["", "/", ":80/", "?a", "/%zz"]))
    )
)
def test_a_url_without_flaws_means_the_same_host_to_httpx(url):
    if check_url(url):
        return
    parsed = httpx.URL(url)
    assert parsed.scheme in {"http", "https"}
    assert parsed.host
    assert not parsed.userinfo
    shown = url.partition("://")[2].split("/")[0].split("?")[0]
    if shown.isascii():
        assert parsed.netloc.decode().lower() in {
            shown.lower(),
            shown.lower().removesuffix(":80").removesuffix(":"),
        }


RESERVED = [
    "Host", "content-length", "Transfer-Encoding", "Connection", "Keep-Alive", "TE", "Trailer", "Upgrade",
    "Expect", "Proxy-Authorization", "Content-Type", "Content-Encoding", "Accept-Encoding", "User-Agent",
    "traceparent", "tracestate", "webhook-id", "Webhook-Signature", "webhook-anything", "X-Webhook-Event",
    "x-webhook-x",
]  # fmt: skip


@pytest.mark.parametrize("name", RESERVED)
def test_headers_that_the_daemon_sets_are_reserved_in_any_case(name):
    assert "itself" in check_headers({name: "x"})[0].message


@pytest.mark.parametrize("name", ["", " ", "a b", "a:", "a\r\nb", "é", "a\x00", "(a)", "x" * 129])
def test_names_that_are_no_tokens_are_refused(name):
    assert len(check_headers({name: "x"})) == 1


@pytest.mark.parametrize(
    "value",
    ["a\r\nb: c", "a\n", "\r", "a\x00", "a\x0b", "\x7f", "\x85", "€", "\ud800", " a", "a\t", "x" * 4097],
)
def test_values_that_could_end_a_line_or_are_not_latin_are_refused(value):
    assert len(check_headers({"X-A": value})) == 1


def test_ordinary_headers_have_no_flaw():
    assert (
        check_headers({"Authorization": "Bearer x.y-z", "X-Empty": "", "X-Tab": "a\tb", "X-Latin": "Zoë"})
        == []
    )


def test_a_header_given_twice_or_too_many_headers_are_refused():
    assert "twice" in check_headers({"X-A": "1", "x-a": "2"})[0].message
    assert str(MAX_HEADERS) in check_headers({f"X-{n}": "" for n in range(MAX_HEADERS + 1)})[0].message


def test_a_flaw_names_its_header():
    assert check_headers({"X-Good": "1", "Host": "a"})[0].path == "$.headers.Host"


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=12), max_size=3))
def test_headers_without_flaws_can_be_sent(headers):
    if not check_headers(headers):
        for name, value in headers.items():
            line = name.encode("ascii") + b": " + value.encode("latin-1")
            assert not set(line) & {0, 10, 13}
