import json
from datetime import UTC, datetime
from random import Random

import h11
import pytest
import trio
import trio.testing

from econeura_daemon.cli.receiver import MAX_BODY, Receiver, receive
from econeura_daemon.core.clock import to_ms
from econeura_daemon.webhooks.signing import econeura_signature, sign

NOW = datetime(2026, 11, 24, 2, tzinfo=UTC)
SECRET = "a secret of the test's"
BODY = b'{"id":"evt_1","type":"a.b"}'


class StillClock:
    def now(self):
        return NOW


def receiver(secrets=(SECRET,), **named):
    return Receiver(secrets, StillClock(), Random(1), **named)


def signed(body=BODY, *, secret=SECRET, id_="evt_1", delivery="del_1", **other):
    seconds = to_ms(NOW) // 1000
    return {
        "webhook-id": id_,
        "webhook-timestamp": str(seconds),
        "webhook-signature": sign([secret], id_, seconds, body),
        "x-webhook-signature": econeura_signature(secret, body),
        "x-webhook-event": "a.b",
        "x-webhook-delivery": delivery,
        **other,
    }


def test_what_is_signed_is_verified_and_taken():
    arrival = receiver().take(signed(), BODY)
    assert (arrival.verified, arrival.why, arrival.status) == (True, None, 204)
    assert (arrival.id, arrival.event, arrival.delivery) == ("evt_1", "a.b", "del_1")
    assert arrival.body == {"id": "evt_1", "type": "a.b"}
    assert arrival.to_json()["at"] == "2026-11-24T02:00:00.000Z"


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        (signed(secret="another"), "no signature matches"),
        (signed(b"other body"), "no signature matches"),
        (signed() | {"x-webhook-signature": "sha256=00"}, "no signature matches"),
        (signed() | {"webhook-signature": "v1,AAAA"}, "no signature matches"),
        (signed() | {"webhook-timestamp": "5"}, "before the present"),
        ({}, "carries no signature"),
    ],
)
def test_what_is_not_signed_with_the_secret_is_answered_401(headers, why):
    arrival = receiver().take(headers, BODY)
    assert (arrival.verified, arrival.status) == (False, 401)
    assert why in arrival.why


def test_either_signature_alone_is_enough():
    ours, standard = signed(), signed()
    del ours["webhook-signature"], standard["x-webhook-signature"]
    assert receiver().take(ours, BODY).verified
    assert receiver().take(standard, BODY).verified


def test_without_a_secret_nothing_is_verified_and_it_says_so():
    arrival = receiver(()).take(signed(), BODY)
    assert (arrival.verified, arrival.why, arrival.status) == (None, "no secret was given", 204)


def test_a_repeat_of_what_was_taken_is_a_duplicate():
    one = receiver()
    one.take(signed(secret="wrong"), BODY)
    assert not one.take(signed(), BODY).duplicate
    assert one.take(signed(), BODY).duplicate
    assert not one.take(signed(id_="evt_2"), BODY).duplicate


def test_attempts_are_counted_by_delivery():
    one = receiver(fail_rate=1)
    assert [one.take(signed(), BODY).attempt for _ in range(3)] == [1, 2, 3]
    assert one.take(signed(delivery="del_2"), BODY).attempt == 1


def test_it_fails_at_the_rate_that_was_asked_for_and_what_failed_was_not_taken():
    one = receiver(fail_rate=0.3)
    arrivals = [one.take(signed(id_=f"e{n}", delivery=f"d{n}"), BODY) for n in range(1000)]
    failed = [arrival for arrival in arrivals if arrival.status == 500]
    assert 240 < len(failed) < 360
    assert not one.take(signed(id_=failed[0].id), BODY).duplicate
    assert {receiver(fail_rate=0).take(signed(), BODY).status for _ in range(50)} == {204}


@pytest.mark.parametrize(
    ("body", "shown"), [(b"\xff", "\ufffd"), (b"text", "text"), (b"[" * 100_000, "[" * 100_000)]
)
def test_a_body_that_is_no_json_is_shown_as_text(body, shown):
    assert receiver(()).take({}, body).body == shown


# --- connections


async def exchange(one, *pieces, close=True):
    """Send ``pieces`` over a connection; return (answers' statuses, arrivals)."""
    ours, theirs = trio.testing.memory_stream_pair()
    arrivals = []
    client = h11.Connection(h11.CLIENT)
    statuses = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive, theirs, one, arrivals.append)
        for piece in pieces:
            if isinstance(piece, bytes):
                await ours.send_all(piece)
                continue
            method, headers, body = piece
            head = h11.Request(
                method=method,
                target="/",
                headers=[("host", "x"), ("content-length", str(len(body))), *headers.items()],
            )
            await ours.send_all(client.send(head) + client.send(h11.Data(data=body)))
            client.send(h11.EndOfMessage())
            while not isinstance(event := client.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    client.receive_data(await ours.receive_some())
                elif isinstance(event, h11.Response):
                    statuses.append(event.status_code)
            if client.our_state is h11.DONE and client.their_state is h11.DONE:
                client.start_next_cycle()
        if close:
            await ours.aclose()
    return statuses, arrivals


async def test_requests_come_one_after_the_other_over_one_connection(autojump_clock):
    statuses, arrivals = await exchange(
        receiver(),
        ("POST", signed(), BODY),
        ("POST", signed(), BODY),
        ("GET", {}, b""),
        ("POST", signed(secret="wrong"), BODY),
    )
    assert statuses == [204, 204, 405, 401]
    assert [arrival.duplicate for arrival in arrivals] == [False, True, True]


async def test_an_answer_waits_as_long_as_was_asked(autojump_clock):
    before = trio.current_time()
    await exchange(receiver(delay=7), ("POST", signed(), BODY))
    assert trio.current_time() - before == pytest.approx(7)


async def test_a_body_over_the_limit_is_answered_413_and_the_connection_closed(autojump_clock):
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive, theirs, receiver(), lambda _: None)
        await ours.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        nursery.start_soon(ours.send_all, b"x" * (MAX_BODY + 1))
        assert (await ours.receive_some()).startswith(b"HTTP/1.1 413")
        assert await ours.receive_some() == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHo",
        b"",
        b"\x16\x03\x01\x02\x00",
    ],
)
async def test_whoever_sends_nonsense_or_leaves_does_no_harm(sent, autojump_clock):
    assert await exchange(receiver(), sent) == ([], [])


async def test_a_sender_that_expects_100_continue_gets_it(autojump_clock):
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive, theirs, receiver(()), lambda _: None)
        await ours.send_all(
            b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        assert (await ours.receive_some()).startswith(b"HTTP/1.1 100")
        await ours.send_all(b"{}")
        assert (await ours.receive_some()).startswith(b"HTTP/1.1 204")
        await ours.aclose()


async def test_a_line_on_the_terminal_says_verdict_attempt_and_body(capsys):
    from econeura_daemon.cli.listen import _LINE
    from econeura_daemon.cli.output import Output

    one = receiver()
    for headers in (signed(), signed(), signed(secret="wrong")):
        Output().line(one.take(headers, BODY).to_json(), _LINE)
    Output("jsonl").line(receiver(()).take({}, b"{}").to_json(), _LINE)
    first, second, third, fourth = capsys.readouterr().out.splitlines()
    assert first.split("  ") == [
        "2026-11-24T02:00:00.000Z", "204", "verified", "a.b", "evt_1", "attempt 1", BODY.decode(),
    ]  # fmt: skip
    assert "attempt 2, duplicate" in second
    assert "NOT VERIFIED: no signature matches" in third
    assert json.loads(fourth)["verified"] is None
