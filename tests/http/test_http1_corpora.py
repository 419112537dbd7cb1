"""Requests that other projects test their parsers with, and what ours makes of them.

The corpora, their origin and their licences are in ``tests/cases/http1_*.json``. Where ours does something else than
the project whose case it is, the tables below say why.
"""

import json
from pathlib import Path

import h11
import pytest
import trio

from econeura_daemon.server.framing import Framer, Head, Refusal
from tests.http.server_rig import PATIENCE, serving

NO_OBS_FOLD = "RFC 9112 section 5.2: a server may refuse obs-fold"
NOT_A_PROXY = "CONNECT is for proxies (RFC 9110 section 9.3.6), which this server is not"
NO_FRAGMENT = "RFC 9112 section 3.2: no form of a target has a fragment"
ONE_CODING = "RFC 9112 section 6.1: 501 for a coding that is not understood; only chunked is"
USER_IN_URL = "RFC 9110 section 4.2.4: a user in a URL is to be treated as an error"
PROXY_PROTOCOL = "the PROXY protocol is not spoken here"

REFUSED = {
    "valid/005": NO_FRAGMENT,
    "valid/025": ONE_CODING,
    "valid/025_line": ONE_CODING,
    "valid/028": "RFC 9112 section 5.1: a space before the colon is refused; there a setting allows it",
    "valid/029": ONE_CODING,
    "valid/030": ONE_CODING,
    "valid/compat_obs_fold": NO_OBS_FOLD,
    "valid/compat_obs_fold_huge": NO_OBS_FOLD,
    "valid/pp_01": PROXY_PROTOCOL,
    "valid/pp_02": PROXY_PROTOCOL,
    "valid/pp_04": PROXY_PROTOCOL,
    "valid/pp_05": PROXY_PROTOCOL,
    "valid/rfc9112_smuggle_gzip_chunked_01": ONE_CODING,
    "valid/rfc9112_smuggle_te_identity_chunked_01": ONE_CODING,
    "valid/rfc9112_target_absolute_userinfo_01": USER_IN_URL,
    "valid/rfc9112_target_authority_connect_01": NOT_A_PROXY,
    "valid/rfc9112_target_authority_ipv6_01": NOT_A_PROXY,
    "fragment in url": NO_FRAGMENT,
    "post identity body world": NO_FRAGMENT,
    "connect request": NOT_A_PROXY,
    "connect caps request": NOT_A_PROXY,
    "connect with body request": NOT_A_PROXY,
    "request with no http version": "HTTP/0.9 is not served",
    "m-search request": "RFC 9112 section 3.2.4: only OPTIONS may ask for *",
    "line folding in header value": NO_OBS_FOLD,
    "line folding in header value (2)": "RFC 9112 section 2.2: lines end with CRLF, a lone LF may be refused",
    "multiple connection header values with folding": NO_OBS_FOLD,
    "multiple connection header values with folding and lws (2)": NO_OBS_FOLD,
    "host:port and basic_auth": USER_IN_URL,
    "source request (2)": "the protocol of Icecast is not spoken here",
    "post - multi coding transfer-encoding chunked body": ONE_CODING,
    "post - multi line coding transfer-encoding chunked body": NO_OBS_FOLD,
}  # fmt: skip
"""What they read and we refuse."""

OWN_LIMIT = "the case sets a limit that is its project's own"
UNDERSCORES = "underscores in names matter to WSGI and CGI, which make variables of them"
UNFINISHED = "nothing is wrong yet: more of it may come"

ACCEPTED = {
    "invalid/001": UNFINISHED,
    "invalid/003c": "RFC 9110 section 9.1: any token is a method",
    "invalid/010": OWN_LIMIT,
    "invalid/011": OWN_LIMIT,
    "invalid/012": OWN_LIMIT,
    "invalid/019": "X-Forwarded-Proto is not believed here",
    "invalid/chunked_07": UNDERSCORES,
    "invalid/040": UNDERSCORES,
    "invalid/pp_01": UNFINISHED,
    "invalid/pp_02": UNFINISHED,
    "invalid/pp_03": UNFINISHED,
    "invalid/rfc9112_chunked_missing_final_crlf_01": UNFINISHED,
    "invalid/rfc9112_leading_crlf_02": "RFC 9112 section 2.2: at least one empty line is ignored; here any number",
}  # fmt: skip
"""What they refuse and we do not."""

READ_OTHERWISE = {
    "valid/031compat": "RFC 9110 section 9.1: methods are case-sensitive; there a setting folds them",
    "valid/040": "names with an underscore, which matter to WSGI and CGI, are dropped there",
    "chunked with trailing headers. blech.": "trailers are headers there; here they are checked and dropped",
}
"""What both read, but not as the same."""


def corpus(name):
    cases = json.loads((Path(__file__).parents[1] / "cases" / f"{name}.json").read_text())["cases"]
    return {case["name"]: case for case in cases}


GUNICORN = corpus("http1_gunicorn")
HTTP_PARSER = corpus("http1_http_parser")
ALL = {**GUNICORN, **HTTP_PARSER}
DROPPED = {"upgrade", "http2-settings", "expect"}


PUT_IN = "localhost:1"
A_REQUEST_IN_A_BODY = "valid/020"


def raw_of(case):
    """Return the bytes; many cases of HTTP/1.1 leave out the Host that it needs (RFC 9112 section 3.2)."""
    raw = "".join(case["raw"]).encode("latin-1")
    if b"\r\nhost:" in raw.lower() or case["name"] == A_REQUEST_IN_A_BODY:
        return raw
    return raw.replace(b" HTTP/1.1\r\n", b" HTTP/1.1\r\nHost: %b\r\n" % PUT_IN.encode())


def meant_by(case):
    """Return ``[(method, target, headers, body), …]`` as the case expects them, none if it expects an error."""
    if "error" in case:
        return []
    return [
        (
            asked["method"],
            asked["target"],
            [(name.lower(), value) for name, value in asked["headers"] if name.lower() not in DROPPED],
            asked["body"],
        )
        for asked in case.get("requests", [case])
    ]


def read(raw, size):
    """Return the whole requests, the refusal or None."""
    framer, found = Framer(), []
    for start in range(0, len(raw), size):
        framer.feed(raw[start : start + size])
        while True:
            got = framer.next_body() if framer.in_body else framer.next_head()
            if got is None:
                break
            if isinstance(got, Refusal):
                return found[:-1] if framer.in_body else found, got
            if isinstance(got, Head):
                found.append([got, b""])
            else:
                found[-1][1] += got
            if not framer.in_body and not found[-1][0].keeps_alive:
                return found, None
    return found[:-1] if framer.in_body else found, None


def as_read(head, body):
    headers = [(name.decode(), value.decode("latin-1")) for name, value in head.headers]
    target = head.raw_path + (b"?" + head.query if head.query else b"")
    read_headers = [field for field in headers if field != ("host", PUT_IN)]
    return head.method, target.decode("latin-1"), read_headers, body.decode("latin-1")


def path_of(target):
    """Return what is left of an absolute target, whose host is told in Host."""
    if not target.startswith("http"):
        return target
    rest = target.partition("://")[2]
    at = min(rest.find(mark) % (len(rest) + 1) for mark in "/?")
    return rest[at:] if rest[at:].startswith("/") else "/" + rest[at:]


@pytest.mark.parametrize("size", [1 << 20, 1], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("case", ALL.values(), ids=ALL)
def test_requests_of_other_projects_are_read_as_they_read_them(case, size):
    raw, meant = raw_of(case), meant_by(case)
    found, refusal = read(raw, size)
    if case["name"] in REFUSED:
        assert refusal is not None
        return
    if case["name"] in ACCEPTED:
        assert refusal is None
        return
    if not meant:
        assert refusal is not None
        return
    for number, (head, body) in enumerate(found[: len(meant)]):
        method, target, headers, their_body = meant[number]
        read_method, read_target, read_headers, read_body = as_read(head, body)
        assert (read_target, read_body) == (path_of(target), their_body)
        if case["name"] not in READ_OTHERWISE:
            assert read_method == method
            assert path_of(target) != target or read_headers == headers  # else Host is what the target says
        assert head.keeps_alive == case.get("keep_alive", head.keeps_alive)
    # Behind an answer that is the last one nothing is read.
    assert len(found) == len(meant) or not found[-1][0].keeps_alive


def test_the_tables_name_nothing_that_is_not_there():
    assert {*REFUSED, *ACCEPTED, *READ_OTHERWISE} <= set(ALL)
    assert not {name for name in REFUSED if "error" in ALL[name]}
    assert not {name for name in ACCEPTED if "error" not in ALL[name]}


def statuses_in(text, method):
    """Return the status of each answer; fails if the text is not made of whole answers."""
    found = []
    while text:
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        parser.send(h11.EndOfMessage())
        parser.receive_data(text)
        event = parser.next_event()
        while isinstance(event, h11.InformationalResponse):
            event = parser.next_event()
        found.append(event.status_code)
        while isinstance(event, h11.Response | h11.Data):
            event = parser.next_event()
        assert isinstance(event, h11.EndOfMessage)
        text = parser.trailing_data[0]
    return found


async def test_the_server_answers_what_it_reads_and_refuses_the_rest_and_harms_nobody():
    heads = [head for case in ALL.values() for head, _ in read(raw_of(case), 9999)[0]]
    hosts = {head.first.get(b"host", b"localhost").decode() for head in heads}
    names = [host.rpartition(":")[0] or host for host in hosts]
    async with serving(scope_of=lambda *_: None, allowed_hosts=names) as rig:
        for case in ALL.values():
            raw = raw_of(case)
            found, refusal = read(raw, 9999)
            async with await rig.connect() as stream:
                with trio.fail_after(PATIENCE):
                    await stream.send_all(raw)
                    await stream.send_eof()
                    text = b""
                    while data := await stream.receive_some(65536):
                        text += data
            statuses = statuses_in(text, found[0][0].method if found else "GET")
            assert statuses[: len(found)] == [200] * len(found), case["name"]
            last = statuses[len(found) :]
            if refusal is None:
                assert last == [], case["name"]
            else:
                assert set(last) <= {400, 414, 417, 431, 501, 505}, case["name"]
                assert len(last) == 1, case["name"]
        await rig.wait_for_connections(0)
