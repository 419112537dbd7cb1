"""One attempt against receivers of every kind: each outcome is a value in words, and nothing outlives it."""

import gzip
import socket
from datetime import UTC, datetime
from random import Random

import httpx
import pytest
import standardwebhooks
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from econeura_daemon._version import VERSION
from econeura_daemon.core.clock import SystemClock
from econeura_daemon.core.settings import WebhookSettings
from econeura_daemon.webhooks.model import Secret
from econeura_daemon.webhooks.sender import Sender
from econeura_daemon.webhooks.signing import econeura_signature, verify
from econeura_daemon.wire import open_transport
from tests.support.authority import server_context, trusting
from tests.support.clocks import START, TrioClock
from tests.support.receivers import (
    LOOPBACK,
    OK,
    SECRET,
    SETTINGS,
    answering,
    names,
    open_receiver,
    outgoing,
    read_request,
    saying,
    subscription,
)

BODY = b'{"id":"evt_1","type":"order.paid","data":{"n":1}}'
QUICK = WebhookSettings(allowed_networks=LOOPBACK, timeout_ms=300, connect_timeout_ms=300)


async def attempt(url, *, using=SETTINGS, resolve=None, make_context=None, **more):
    """Make one attempt over a transport of its own."""
    async with open_transport(using, resolve=resolve, make_context=make_context) as over:
        return await Sender(over, using, SystemClock(), Random(1)).send(outgoing(url, **more))


async def attempt_at(serve, **more):
    """Make one attempt at a receiver that runs ``serve``; it ends with every connection closed."""
    with trio.fail_after(20):
        async with open_receiver(serve) as receiver:
            outcome = await attempt(receiver.url(), **more)
            if receiver.open:
                await receiver.all_closed.wait()
            return outcome


# What is sent


async def test_a_delivery_carries_every_header_of_the_contract_and_the_stored_bytes():
    requests = []
    with trio.fail_after(10):
        async with open_receiver(answering(OK, requests)) as receiver:
            outcome = await attempt(
                receiver.url(path="/hook?a=b"), body=BODY, headers={"X-Own": "Zoë", "b": "c"}
            )
    assert outcome.succeeded
    lines, body = requests[0]
    assert body == BODY
    assert lines[0] == "POST /hook?a=b HTTP/1.1"
    headers = dict(line.split(": ", 1) for line in lines[1:])
    stamp, signature = headers.pop("webhook-timestamp"), headers.pop("webhook-signature")
    assert headers == {
        "Host": f"127.0.0.1:{receiver.port}",
        "Content-Type": "application/json",
        "Content-Length": str(len(BODY)),
        "User-Agent": f"econeura-daemon/{VERSION}",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "webhook-id": "evt_1",
        "X-Webhook-Signature": econeura_signature(SECRET, BODY),
        "X-Webhook-Event": "order.paid",
        "X-Webhook-Delivery": "del_1",
        "X-Own": "Zoë",
        "b": "c",
    }
    standardwebhooks.Webhook(SECRET).verify(
        body, {"webhook-id": "evt_1", "webhook-timestamp": stamp, "webhook-signature": signature}
    )


async def test_the_timestamp_is_the_attempts_own_and_expired_secrets_do_not_sign():
    requests = []
    now_ms = int(START.timestamp() * 1000)
    old, gone = Secret("old", expires_at=now_ms + 3_600_000), Secret("gone", expires_at=now_ms - 1)
    with trio.fail_after(10):
        async with open_receiver(answering(OK, requests)) as receiver, open_transport(SETTINGS) as over:
            sender = Sender(over, SETTINGS, TrioClock())
            to = subscription(receiver.url(), secrets=(Secret(SECRET), old, gone))
            outcome = await sender.send(outgoing(to))
    assert outcome.sent_at >= START
    headers = dict(line.split(": ", 1) for line in requests[0][0][1:])
    assert int(headers["webhook-timestamp"]) == int(outcome.sent_at.timestamp())
    assert len(headers["webhook-signature"].split()) == 2
    for secret in (SECRET, "old"):
        standard = {name: value for name, value in headers.items() if name.startswith("webhook-")}
        assert verify([secret], standard, requests[0][1], now_ms=now_ms, tolerance_ms=60_000)


async def test_a_trace_goes_on_as_a_child_and_without_one_there_is_none():
    requests = []
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\nvendor=a"
    with trio.fail_after(10):
        async with open_receiver(answering(OK, requests)) as receiver:
            await attempt(receiver.url(), trace=trace)
            await attempt(receiver.url())
            await attempt(receiver.url(), trace="junk")
    first, *others = [[line for line in lines if line.startswith("trace")] for lines, _ in requests]
    assert first[0].startswith("traceparent: 00-0af7651916cd43dd8448eb211c80319c-")
    assert "b7ad6b7169203331" not in first[0]
    assert first[1] == "tracestate: vendor=a"
    assert others == [[], []]


async def test_a_changed_subscription_is_sent_as_changed():
    requests = []
    with trio.fail_after(10):
        async with open_receiver(answering(OK, requests)) as receiver, open_transport(SETTINGS) as over:
            sender = Sender(over, SETTINGS, SystemClock())
            change = {}
            await sender.send(outgoing(subscription(receiver.url(), **change)))
            change["headers"] = {"X-A": "1"}
            await sender.send(outgoing(subscription(receiver.url(), **change)))
            change["secrets"] = (Secret("other"),)
            await sender.send(outgoing(subscription(receiver.url(), **change)))
            await sender.send(outgoing(subscription(receiver.url(path="/new"), **change)))
    heads = ["\n".join(lines) for lines, _ in requests]
    assert "X-A: 1" not in heads[0]
    assert "X-A: 1" in heads[1]
    other = econeura_signature("other", b'{"id":"evt_1"}')
    assert other not in heads[1]
    assert other in heads[2]
    assert heads[3].startswith("POST /new ")
    assert receiver.connections == 1


# What comes back


async def test_status_headers_and_the_first_4_kib_of_the_body_are_kept():
    body = bytes(range(256)) * 40
    answer = b"HTTP/1.1 202 Accepted\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    outcome = await attempt_at(answering(answer))
    assert outcome.succeeded
    assert outcome.status_code == 202
    assert outcome.response_headers == {"x-a": "1, 2", "content-length": "10240"}
    assert outcome.response_body == body[:4096]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_never_followed(status):
    with trio.fail_after(10):
        async with open_receiver(answering(OK)) as target:
            answer = b"HTTP/1.1 %d Moved\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n"
            outcome = await attempt_at(answering(answer % (status, target.url().encode())))
            assert (outcome.status_code, outcome.succeeded, outcome.error) == (status, False, None)
            assert target.connections == 0


@pytest.mark.parametrize(
    ("status", "expected"), [(503, 120_000), (429, 120_000), (302, 120_000), (200, None)]
)
async def test_retry_after_is_read_from_failures(status, expected):
    answer = b"HTTP/1.1 %d X\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n" % status
    assert (await attempt_at(answering(answer))).retry_after_ms == expected


async def test_retry_after_may_be_a_date():
    answer = b"HTTP/1.1 503 X\r\nRetry-After: Fri, 31 Dec 2100 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n"
    assert (await attempt_at(answering(answer))).retry_after_ms > 86_400_000


async def test_a_gzip_bomb_is_kept_as_the_bytes_that_came():
    bomb = gzip.compress(b"\0" * 40_000_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    outcome = await attempt_at(saying(head + bomb))
    assert outcome.succeeded
    assert outcome.response_body == bomb[:4096]


async def test_an_endless_answer_counts_once_its_first_64_kib_came_and_is_hung_up_on():
    async def endless(stream):
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"1000\r\n" + b"x" * 4096 + b"\r\n")

    outcome = await attempt_at(endless)
    assert outcome.succeeded
    assert outcome.response_body == b"x" * 4096


async def test_a_head_that_does_not_end_is_a_failure_in_words():
    async def endless(stream):
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n")
        while True:
            await stream.send_all(b"X-A: " + b"x" * 4000 + b"\r\n")

    outcome = await attempt_at(endless)
    assert outcome.error == "the answer is larger than 65536 bytes"
    assert outcome.status_code is None


async def test_endless_interim_answers_are_hung_up_on():
    async def endless(stream):
        await read_request(stream)
        while True:
            await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    assert (await attempt_at(endless)).error == "the answer is larger than 65536 bytes"


async def test_many_headers_are_kept_within_bounds():
    many = b"".join(b"X-%d: %b\r\n" % (n, b"v" * 200) for n in range(200))
    outcome = await attempt_at(answering(b"HTTP/1.1 200 OK\r\n" + many + b"Content-Length: 0\r\n\r\n"))
    assert outcome.succeeded
    assert sum(len(name) + len(value) for name, value in outcome.response_headers.items()) <= 8192


async def test_an_answer_before_the_body_was_read_is_an_answer():
    async def impatient(stream):
        await stream.receive_some(100)
        await stream.send_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await stream.send_eof()
        with trio.move_on_after(0.2):
            while await stream.receive_some(65536):
                pass

    outcome = await attempt_at(impatient, body=b"x" * 5_000_000)
    assert (outcome.status_code, outcome.error) == (413, None)


# What goes wrong


async def test_a_refused_connection_says_who_refused():
    outcome = await attempt("http://127.0.0.1:1/")
    assert outcome.error == "connection refused by 127.0.0.1:1"
    assert (outcome.status_code, outcome.refused, outcome.succeeded) == (None, False, False)
    assert outcome.response_headers is outcome.response_body is None


async def test_an_unknown_name_is_said():
    outcome = await attempt("http://nobody.example/", resolve=names())
    assert "'nobody.example' cannot be resolved" in outcome.error


async def test_the_guards_refusal_is_marked_and_says_what_would_allow_it():
    with trio.fail_after(10):
        async with open_receiver(answering(OK)) as receiver:
            for url in (receiver.url(), receiver.url("[::ffff:127.0.0.1]"), receiver.url("hook.example")):
                resolve = names(hook__example=["127.0.0.1"])
                outcome = await attempt(url, using=WebhookSettings(), resolve=resolve)
                assert outcome.refused
                assert "loopback" in outcome.error
                assert "webhooks.allowed_networks" in outcome.error
            assert receiver.connections == 0


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0"])
async def test_odd_spellings_of_an_address_reach_nobody(host):
    """They are refused when configured; one that is stored all the same meets the guard or no parser."""
    with trio.fail_after(10):
        async with open_receiver(answering(OK)) as receiver:
            outcome = await attempt(receiver.url(host), using=WebhookSettings())
            assert outcome.refused or "cannot be" in outcome.error
            assert receiver.connections == 0


async def test_a_name_whose_first_address_is_dead_is_delivered_to_the_second():
    with trio.fail_after(10):
        async with open_receiver(answering(OK)) as receiver:
            resolve = names(hook__example=["127.0.0.2", "127.0.0.1"])
            assert (await attempt(receiver.url("hook.example"), resolve=resolve)).succeeded


async def test_a_certificate_that_does_not_verify_is_a_failure_and_one_that_does_is_not():
    context = server_context("hook.example")
    resolve = names(hook__example=["127.0.0.1"])
    with trio.fail_after(10):
        async with open_receiver(answering(OK), context=context) as receiver:
            url = receiver.url("hook.example", "https")
            assert (await attempt(url, resolve=resolve, make_context=trusting)).succeeded
            outcome = await attempt(url, resolve=resolve)
            assert "certificate does not verify" in outcome.error
            outcome = await attempt(receiver.url(scheme="https"), make_context=trusting)
            assert "certificate does not verify" in outcome.error


async def test_a_receiver_that_leaves_without_close_notify_has_answered_if_its_status_came():
    """Many do, and an attempt is judged by its status. What its head announced must have come all the same."""
    answer = b"HTTP/1.0 200 OK\r\n\r\nthanks"

    async def leave(stream):
        await read_request(stream)
        await stream.send_all(answer)

    resolve = names(hook__example=["127.0.0.1"])
    with trio.fail_after(10):
        async with open_receiver(leave, context=server_context("hook.example")) as receiver:
            url = receiver.url("hook.example", "https")
            outcome = await attempt(url, resolve=resolve, make_context=trusting)
            assert (outcome.status_code, outcome.error, outcome.response_body) == (200, None, b"thanks")
            assert outcome.succeeded
            answer = b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nthanks"
            outcome = await attempt(url, resolve=resolve, make_context=trusting)
            assert "before the answer was complete" in outcome.error
            assert not outcome.succeeded


async def test_a_receiver_that_never_answers_costs_the_timeout_and_no_more(autojump_clock):
    """Real sockets count as idle for autojump, so the time passes at once."""

    async def silent(stream):
        await stream.receive_some(1)
        await trio.sleep_forever()

    async with open_receiver(silent) as receiver, open_transport(SETTINGS) as over:
        outcome = await Sender(over, SETTINGS, TrioClock()).send(outgoing(receiver.url()))
    assert outcome.error == "no answer within 15000 ms"
    assert outcome.duration_ms == 15_000


@pytest.mark.parametrize(
    ("beginning", "error", "status"),
    [
        (b"", "no answer within 300 ms", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", "the answer did not end within 300 ms", 200),
    ],
)
async def test_a_dripping_receiver_cannot_hold_an_attempt(beginning, error, status):
    async def dripping(stream):
        await read_request(stream)
        await stream.send_all(beginning or b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            await stream.send_all(b"a")
            await trio.sleep(0.01)

    outcome = await attempt_at(dripping, using=QUICK)
    assert (outcome.error, outcome.status_code, outcome.succeeded) == (error, status, False)
    assert outcome.duration_ms < 5_000


async def test_a_receiver_that_does_not_read_cannot_hold_an_attempt():
    async def deaf(stream):
        await trio.sleep_forever()

    with trio.fail_after(10):
        async with open_receiver(deaf) as receiver:
            outcome = await attempt(receiver.url(), using=QUICK, body=b"x" * 20_000_000)
    assert outcome.error == "no answer within 300 ms"


@pytest.mark.parametrize(
    "answer",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"220 mail.example ESMTP\r\n\r\n",
        b"<html></html>\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_told(answer):
    outcome = await attempt_at(saying(answer))
    assert "not HTTP/1.1" in outcome.error


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal",
    ],
)
async def test_an_answer_that_breaks_off_has_a_status_and_an_error(answer):
    outcome = await attempt_at(saying(answer))
    assert outcome.status_code == 200
    assert outcome.error is not None
    assert not outcome.succeeded


async def test_a_hang_up_at_every_byte_of_the_answer_is_an_outcome():
    answer = b"HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    for abort in (False, True):
        for length in range(len(answer) + 1):
            outcome = await attempt_at(cutting(answer[:length], abort=abort))
            assert outcome.succeeded is (length == len(answer) and outcome.error is None)
            if length < len(answer):
                assert outcome.error, (abort, length)
                assert outcome.status_code in {None, 200}
            elif not abort:
                assert outcome.succeeded


def cutting(answer, *, abort):
    async def serve(stream):
        await read_request(stream)
        if answer:
            await stream.send_all(answer)
        if abort:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    return serve


async def test_a_reset_at_every_moment_of_the_request_is_an_outcome():
    for after in (0, 1, 50, 300, 100_000, 500_000):

        async def resetting(stream, after=after):
            got = 0
            while got < after:
                got += len(await stream.receive_some(after - got)) or after
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        outcome = await attempt_at(resetting, body=b"x" * 1_000_000)
        assert "reset" in outcome.error or "without sending a response" in outcome.error, outcome


async def test_a_subscription_that_cannot_be_sent_to_is_an_outcome():
    for broken in (
        subscription("http://["),
        subscription("nonsense"),
        subscription("ftp://127.0.0.1/"),
        subscription("http://127.0.0.1:1/", secrets=()),
        subscription("http://127.0.0.1:1/", secrets=(Secret("whsec_!"),)),
        subscription("http://127.0.0.1:1/", headers={"é": "x"}),
        subscription("http://127.0.0.1:1/", headers={"x": "\u20ac"}),
    ):
        outcome = await attempt(broken)
        assert outcome.error
        assert "daemon could not" not in outcome.error, outcome.error


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b"])
async def test_a_header_that_would_end_a_line_is_not_sent(value):
    requests = []
    with trio.fail_after(10):
        async with open_receiver(answering(OK, requests)) as receiver:
            outcome = await attempt(receiver.url(), headers={"X-A": value})
            assert "cannot be sent" in outcome.error
    assert requests == []


async def test_a_bug_of_a_transport_is_an_outcome_and_logged(caplog):
    def buggy(request):
        raise KeyError("x")

    sender = Sender(httpx.MockTransport(buggy), SETTINGS, SystemClock())
    outcome = await sender.send(outgoing("http://127.0.0.1/"))
    assert outcome.error == "the daemon could not make the attempt: KeyError"
    assert "an attempt failed inside the daemon" in caplog.text


async def test_any_transport_serves_even_one_whose_answer_is_too_long():
    sender = Sender(
        httpx.MockTransport(lambda request: httpx.Response(200, content=request.content * 100_000)),
        SETTINGS,
        SystemClock(),
    )
    outcome = await sender.send(outgoing("http://127.0.0.1/", body=b"xy"))
    assert outcome.succeeded
    assert outcome.response_body == b"xy" * 2048


async def test_of_an_endless_answer_no_more_is_asked_for_whatever_the_transport():
    class Endless(httpx.AsyncByteStream):
        parts = 0
        closed = False

        def __aiter__(self):
            return self

        async def __anext__(self):
            await trio.lowlevel.checkpoint()
            self.parts += 1
            return b"x" * 1024

        async def aclose(self):
            self.closed = True

    stream = Endless()
    over = httpx.MockTransport(lambda request: httpx.Response(200, stream=stream))
    with trio.fail_after(10):
        assert (await Sender(over, SETTINGS, SystemClock()).send(outgoing("http://127.0.0.1/"))).succeeded
    assert stream.parts == 64
    assert stream.closed


async def test_cancelling_closes_the_connection_and_comes_out_as_cancelled():
    arrived = trio.Event()

    async def silent(stream):
        await read_request(stream)
        arrived.set()
        while await stream.receive_some(1):
            pass

    with trio.fail_after(10):
        async with open_receiver(silent) as receiver, open_transport(SETTINGS) as over:
            sender = Sender(over, SETTINGS, SystemClock())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sender.send, outgoing(receiver.url()))
                await arrived.wait()
                nursery.cancel_scope.cancel()
            assert nursery.cancel_scope.cancelled_caught
            await receiver.all_closed.wait()
            assert "0 busy" in repr(over)


async def test_cancelling_at_any_moment_leaks_no_connection():
    async def slow(stream):
        await read_request(stream)
        for byte in OK:
            await stream.send_all(bytes([byte]))
            await trio.lowlevel.checkpoint()

    with trio.fail_after(60):
        async with open_receiver(slow) as receiver:
            for checkpoints in range(60):
                async with open_transport(SETTINGS) as over:
                    sender = Sender(over, SETTINGS, SystemClock())
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(sender.send, outgoing(receiver.url()))
                        for _ in range(checkpoints):
                            await trio.lowlevel.checkpoint()
                        nursery.cancel_scope.cancel()
                    assert "0 busy" in repr(over)
                if receiver.open:
                    await receiver.all_closed.wait()


# Anything at all

junk = st.one_of(
    st.binary(max_size=300),
    st.lists(
        st.one_of(
            st.sampled_from(
                [
                    b"HTTP/1.1 200 OK\r\n",
                    b"HTTP/1.1 100 Continue\r\n\r\n",
                    b"HTTP/1.0 503 X\r\n",
                    b"HTTP/1.1 204 N\r\n",
                    b"Content-Length: 3\r\n",
                    b"Content-Length: -1\r\n",
                    b"Transfer-Encoding: chunked\r\n",
                    b"\r\n",
                    b"\r\n\r\n",
                    b"Retry-After: 9999999999999\r\n",
                    b"Location: http://10.0.0.1/\r\n",
                    b"Connection: close\r\n",
                    b"abc",
                    b"3\r\nabc\r\n",
                    b"0\r\n\r\n",
                    b"Content-Encoding: gzip\r\n",
                    b"ffffffffffffffff\r\n",
                    b": \r\n",
                    b" \r\n",
                ]
            ),
            st.binary(max_size=20),
        ),
        max_size=10,
    ).map(b"".join),
)


@given(st.lists(junk, min_size=1, max_size=3), st.booleans())
@settings(deadline=None)
def test_whatever_a_receiver_says_is_an_outcome_within_the_time(answers, keep):
    async def main():
        left = list(answers)

        async def serve(stream):
            while await read_request(stream) is not None and left:
                if answer := left.pop(0):
                    await stream.send_all(answer)
                if not keep:
                    return

        with trio.fail_after(20):
            async with open_receiver(serve) as receiver, open_transport(QUICK) as over:
                sender = Sender(over, QUICK, SystemClock(), Random(1))
                for _ in answers:
                    started = datetime.now(UTC)
                    outcome = await sender.send(outgoing(receiver.url()))
                    assert outcome.sent_at >= started
                    assert (outcome.status_code is not None) or outcome.error
                    assert "daemon could not" not in (outcome.error or "")
                    assert len(outcome.response_body or b"") <= 4096
                assert "0 busy" in repr(over)

    trio.run(main, clock=trio.testing.MockClock(rate=10, autojump_threshold=0.2))
