"""Mails that are sent on, over a real socket."""

import email
import email.policy
import json
import socket
import ssl
import threading

import pytest
import trustme

from econeura_daemon.core.clock import SystemClock
from econeura_daemon.core.errors import InvalidInputError
from econeura_daemon.worker.mailstore import MailServer, Outcome, Security, open_mail_store
from econeura_daemon.worker.mailstore.letters import letter
from tests.support.cpython_mails import cpython_mails
from tests.support.mails import Stores, mail
from tests.support.smtp_server import mail_host

TO = "boss@example.com"


@pytest.fixture
def there(tmp_path):
    there = Stores("maildir", tmp_path)
    there.put(mail("a@b", subject="=?utf-8?b?wr9xdcOpPw==?= more"))
    return there


def plain(host, **more):
    return MailServer(
        host="127.0.0.1",
        port=host.port,
        sender="worker@example.org",
        security=Security.NONE,
        timeout=5,
        **more,
    )


def forward(there, server, to=TO):
    return open_mail_store(there.path, server=server).carry_out("<a@b>", "forward", forward_to=to)


def parsed(content):
    return email.message_from_bytes(content, policy=email.policy.default)


def test_a_mail_is_sent_on_once_with_the_original_attached(there):
    with mail_host() as host:
        assert forward(there, plain(host)).outcome is Outcome.DONE
        assert forward(there, plain(host)).outcome is Outcome.ALREADY
        assert forward(there, plain(host), "other@example.com").outcome is Outcome.DONE
    assert len(host.letters) == 2
    assert host.envelopes[:2] == ["MAIL FROM:<worker@example.org>", "RCPT TO:<boss@example.com>"]
    sent, other = (parsed(content) for content in host.letters)
    assert sent["Subject"] == "Fwd: ¿qué? more"
    assert (sent["To"], sent["From"], sent["References"]) == (TO, "worker@example.org", "<a@b>")
    assert sent["Auto-Submitted"] == "auto-forwarded"
    assert sent["Message-ID"] != other["Message-ID"]
    (attached,) = sent.iter_attachments()
    assert attached.get_content()["Message-ID"] == "<a@b>"
    assert open_mail_store(there.path).unprocessed(9) == []


def test_lines_that_are_dots_arrive_as_they_are(tmp_path):
    there = Stores("maildir", tmp_path)
    body = "a\n.\n..\n.b\n"
    there.put(mail("a@b", body=body))
    with mail_host() as host:
        assert forward(there, plain(host)).outcome is Outcome.DONE
    assert body.replace("\n", "\r\n").encode() in host.letters[0]


def test_without_a_mail_server_or_an_address_nothing_is_sent_and_that_is_no_error(there):
    done = forward(there, None)
    assert (done.outcome, done.reason) == (Outcome.NOT_CONFIGURED, "no mail server is configured")
    with mail_host() as host:
        assert forward(there, plain(host), None).outcome is Outcome.NOT_CONFIGURED
    assert host.letters == []


@pytest.mark.parametrize(
    "address", ["", "a", "a@b\r\nRCPT TO:<x@y>", "a b@c", "a@b,c@d", "<a@b>", "ñ@b", "a@" + "b" * 300]
)
def test_what_is_no_address_is_refused_before_anything_is_sent(there, address):
    with mail_host() as host:
        done = forward(there, plain(host), address)
    assert done.outcome is Outcome.NOT_CONFIGURED
    assert "is no e-mail address" in done.reason
    assert host.envelopes == []


def test_a_sender_that_is_no_address_is_said_before_anything_is_opened():
    with pytest.raises(InvalidInputError, match=r"\$\.sender: expected an e-mail address"):
        MailServer(host="127.0.0.1", sender="Ana <ana@example.com>")


@pytest.mark.parametrize(
    ("command", "answer", "outcome"),
    [
        ("RCPT", b"550 no such user", Outcome.REFUSED),
        ("RCPT", b"450 greylisted", Outcome.RETRY),
        ("MAIL", b"552 too large", Outcome.REFUSED),
        ("DATA", b"451 later", Outcome.RETRY),
        (".", b"554 looks like spam", Outcome.REFUSED),
        (".", b"452 disk full", Outcome.RETRY),
        ("EHLO", None, Outcome.RETRY),
        ("RCPT", None, Outcome.RETRY),
        ("DATA", None, Outcome.RETRY),
        (".", None, Outcome.UNKNOWN),
    ],
)
def test_what_the_server_says_decides_whether_it_is_tried_again(there, command, answer, outcome):
    with mail_host({command: answer}) as host:
        done = forward(there, plain(host))
    assert done.outcome is outcome
    if answer is not None:
        assert done.reason.startswith(answer[:3].decode())
    assert done.is_final == (outcome is not Outcome.RETRY)
    assert open_mail_store(there.path).unprocessed(9) == ([] if done.is_final else ["a@b"])
    with mail_host() as host:
        again = forward(there, plain(host))
    assert again.outcome is (Outcome.UNKNOWN if outcome is Outcome.UNKNOWN else Outcome.DONE)
    assert len(host.letters) == (outcome is not Outcome.UNKNOWN)


def test_a_server_that_is_not_there_is_for_later(there):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    server = MailServer(host="127.0.0.1", port=port, sender="w@example.org", security=Security.NONE)
    done = forward(there, server)
    assert done.outcome is Outcome.RETRY
    assert "refused" in done.reason


def test_a_server_that_says_nothing_is_given_up_in_time(there):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = MailServer(
            host="127.0.0.1",
            port=listener.getsockname()[1],
            sender="w@example.org",
            security="none",
            timeout=0.1,
        )
        assert forward(there, server).outcome is Outcome.RETRY


@pytest.mark.parametrize("security", [Security.TLS, Security.STARTTLS])
def test_letters_and_passwords_go_through_tls(there, tmp_path, security):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with mail_host(tls=context, starttls=security is Security.STARTTLS) as host:
        server = MailServer(
            host="127.0.0.1", port=host.port, sender="w@example.org", security=security,
            user="ana", password="secret", ca_file=tmp_path / "ca.pem", timeout=5,
        )  # fmt: skip
        assert "secret" not in repr(server)
        assert forward(there, server).outcome is Outcome.DONE
        assert host.logins == [[b"ana", b"secret"]]
        stranger = MailServer(
            host="127.0.0.1", port=host.port, sender="w@example.org", security=security, timeout=5
        )
        assert forward(there, stranger, "x@example.com").outcome is Outcome.RETRY


def test_a_password_is_not_sent_where_tls_is_not_offered(there):
    with mail_host() as host:
        server = MailServer(
            host="127.0.0.1", port=host.port, sender="w@example.org", user="ana", password="secret", timeout=5
        )
        assert forward(there, server).outcome is Outcome.RETRY
    assert host.logins == []


def test_a_wrong_password_costs_no_mail_its_chance(there):
    with mail_host({"AUTH": b"535 wrong"}) as host:
        done = forward(there, plain(host, user="ana", password="wrong"))
    assert (done.outcome, "535 wrong" in done.reason) == (Outcome.RETRY, True)


def test_a_letter_of_ours_that_comes_back_is_not_sent_on_again(there):
    with mail_host() as host:
        forward(there, plain(host))
        there.put(host.letters[0].replace(b"\r\n", b"\n"))
        back = parsed(host.letters[0])["Message-ID"]
        done = open_mail_store(there.path, server=plain(host)).carry_out(back, "forward", forward_to=TO)
    assert done.outcome is Outcome.REFUSED
    assert len(host.letters) == 1


def test_while_one_worker_sends_another_waits_its_turn(there):
    answers_now = threading.Event()

    def slowly():
        answers_now.wait(10)
        return b"250 taken"

    with mail_host({".": slowly}) as host:
        first = []
        thread = threading.Thread(target=lambda: first.append(forward(there, plain(host))))
        thread.start()
        assert host.arrived.wait(10)
        assert forward(there, plain(host)).outcome is Outcome.RETRY
        assert open_mail_store(there.path).read("a@b")  # the store is not held meanwhile
        answers_now.set()
        thread.join()
        assert first[0].outcome is Outcome.DONE
    assert len(host.letters) == 1


def test_what_a_killed_worker_was_sending_is_unknown_and_not_sent_again(there, tmp_path):
    marks = tmp_path / "marks"
    marks.write_text(json.dumps({"id": "a@b", "to": TO, "sending": "started"}) + "\n")
    with mail_host() as host:
        for _ in range(2):
            store = open_mail_store(there.path, server=plain(host), marks=marks)
            done = store.carry_out("a@b", "forward", forward_to=TO)
            assert done.outcome is Outcome.UNKNOWN
            assert "died" in done.reason
    assert host.letters == []


@pytest.mark.slow
def test_mails_that_nobody_here_wrote_are_attached_byte_for_byte():
    for path in cpython_mails():
        raw = path.read_bytes()
        text = letter(raw, "a@b", sender="w@example.org", to=TO, clock=SystemClock())
        assert text.isascii(), path
        assert b"\n" not in text.replace(b"\r\n", b""), path
        assert max(map(len, text.split(b"\r\n"))) <= 998, path
        written = parsed(text)
        (attached,) = list(written.walk())[2:3]
        if attached.get_content_type() == "message/rfc822":
            assert raw.replace(b"\r\n", b"\n").strip() in text.replace(b"\r\n", b"\n"), path
        else:
            assert attached.get_content() == raw, path
