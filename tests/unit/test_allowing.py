"""Allow-lists: what fits an entry, and every known way around one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econeura_daemon.core.allowing import EVERYTHING, AllowList
from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.core.structuring import structure_settings

MAIL = AllowList(("GET /health", "POST /emails/*", "* /cron/jobs/*/enable"))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", b"/health"),
        ("HEAD", b"/health"),
        ("GET", b"/h%65alth"),
        ("POST", b"/emails/process"),
        ("POST", b"/emails/process/bulk"),
        ("POST", b"/emails/"),
        ("POST", b"/emails/%C3%A4%20b"),
        ("POST", b"/emails/..a/.b/c..d"),
        ("DELETE", b"/cron/jobs/nightly/enable"),
    ],
)
def test_what_fits_an_entry_passes(method, path):
    assert MAIL.lets(method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", b"/health"),
        ("get", b"/health"),
        ("OPTIONS", b"/health"),
        ("GET", b"/health/"),
        ("GET", b"/healthy"),
        ("GET", b"/HEALTH"),
        ("HEAD", b"/emails/x"),
        ("POST", b"/emails"),
        ("POST", b"/cron/jobs/a/b/enable"),
        ("POST", b"/cron/jobs//enable"),
        ("POST", b""),
        ("POST", b"*"),
    ],
)
def test_what_fits_none_does_not(method, path):
    assert not MAIL.lets(method, path)


@pytest.mark.parametrize(
    "path",
    [
        b"/emails/../admin",
        b"/emails/%2e%2e/admin",
        b"/emails/%2E./admin",
        b"/emails/.%2e/admin",
        b"/emails/./x",
        b"/emails/..",
        b"/emails/%2e",
        b"/emails/..%2fadmin",
        b"/emails/x%2Fy",
        b"/emails/..%5cadmin",
        b"/emails/..\\admin",
        b"/emails//admin",
        b"//emails/x",
        b"/emails/..;/admin",
        b"/emails/x;/../../admin",
        b"/emails/%3b",
        b"/emails/%252e%252e/admin",
        b"/emails/%25",
        b"/emails/%c0%ae%c0%ae/admin",
        b"/emails/..%c0%afadmin",
        b"/emails/%00",
        b"/emails/x%0d%0aX: y",
        b"/emails/%0a",
        b"/emails/x%3Fy",
        b"/emails/x#y",
        b"/emails/%23",
        b"/emails/%",
        b"/emails/%zz",
        b"/emails/%u002e%u002e/admin",
        b"/emails/\xff",
        b"/cron/jobs/../enable",
        b"/cron/jobs/%2e%2e/enable",
        b"/cron/jobs/a%2fb/enable",
    ],
)
@pytest.mark.parametrize("method", ["POST"])
def test_a_path_that_can_be_understood_in_two_ways_fits_no_entry(method, path):
    assert not MAIL.lets(method, path)


@given(st.binary(max_size=40), st.sampled_from(["GET", "POST", "X"]))
def test_a_list_without_entries_lets_nothing_pass_and_the_open_one_everything(path, method):
    assert not AllowList(()).lets(method, path)
    assert AllowList(("GET /x", EVERYTHING)).lets(method, path)


@given(
    st.lists(st.sampled_from(["..", "%2e%2e", "emails", "/", "%2f", ";", "a", "%5c", "%25", ""]), max_size=8)
)
def test_what_passes_stays_below_its_prefix_however_it_is_resolved(parts):
    from posixpath import normpath
    from urllib.parse import unquote

    path = "/" + "/".join(parts)
    if AllowList(("GET /emails/*",)).lets("GET", path.encode()):
        once = unquote(path)
        for found in (once, unquote(once), once.partition(";")[0], once.replace("\\", "/")):
            assert normpath(found).startswith("/emails")


@pytest.mark.parametrize(
    ("entry", "flaw"),
    [
        ("/health", "expected a method"),
        ("GET", "expected a method"),
        ("GET health", "expected a method"),
        ("get /health", "expected a method"),
        ("GET  /health", "expected a method"),
        ("GET /health /x", "expected a method"),
        ("GET /a*", "whole segment"),
        ("GET /**", "whole segment"),
        ("GET /%65", "percent-encoded"),
        ("GET /a/../b", "/../"),
        ("GET /a//b", "//"),
        ("GET /a;b", ";"),
        ("GET /a?b=1", "?"),
    ],
)
def test_an_entry_that_would_never_fit_is_a_mistake(entry, flaw):
    with pytest.raises(Exception, match="expected") as caught:
        structure_settings({"allow": ["GET /ok", entry]}, MeshSettings)
    assert flaw in str(caught.value)
    assert "$.allow[1]" in str(caught.value)


def test_a_list_says_what_it_lets_pass():
    assert str(MAIL) == "GET /health, POST /emails/*, * /cron/jobs/*/enable"
    assert str(AllowList(())) == "nothing"
    assert str(AllowList(tuple(f"GET /{n}" for n in range(22)))).endswith("GET /19 and 2 more")
