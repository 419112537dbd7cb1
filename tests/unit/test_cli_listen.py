"""``webhooks listen`` in this process, against a daemon of the test's own."""

import json
import os
import signal
import socket
import threading
import urllib.request

import pytest

from econeura_daemon.cli.root import run
from econeura_daemon.core.clock import SystemClock, to_ms
from econeura_daemon.webhooks.signing import econeura_signature, secret_flaw, sign
from tests.support.answering import ok, refusal, serving
from tests.support.ports import free_port

BODY = b'{"id":"evt_1"}'
DELETED = (204, b"")


def deliver(url, secret):
    seconds = to_ms(SystemClock().now()) // 1000
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(seconds),
        "webhook-signature": sign([secret], "evt_1", seconds, BODY),
        "X-Webhook-Signature": econeura_signature(secret, BODY),
        "X-Webhook-Event": "a.b",
        "X-Webhook-Delivery": "del_1",
    }
    request = urllib.request.Request(url, data=BODY, headers=headers, method="POST")
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).close()


def created(then):
    """Answer that a subscription was made, and do ``then`` with its body in a thread."""

    def answer(request):
        threading.Thread(target=then, args=(request[3],)).start()
        return 201, ok({"id": "sub_1"})[1]

    return answer


def test_it_subscribes_receives_and_unsubscribes(capsys):
    deliveries = created(lambda body: deliver(body["url"], body["secret"]))
    with serving(deliveries, DELETED) as (server, url):
        arguments = ["--subscribe", "a.*,b", "--count", "1", "-o", "jsonl", "--url", url]
        assert run(["webhooks", "listen", *arguments]) == 0
    (made, deleted) = server.asked
    assert made[3]["events"] == ["a.*", "b"]
    assert secret_flaw(made[3]["secret"]) is None
    assert deleted[:2] == ("DELETE", "/v1/webhooks/subscriptions/sub_1")
    printed = capsys.readouterr()
    assert json.loads(printed.out)["verified"] is True
    assert f"Listening at {made[3]['url']}, subscribed as sub_1" in printed.err
    assert made[3]["secret"] not in printed.err + printed.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_130_and_it_unsubscribes(number, capsys):
    with serving(created(lambda _: os.kill(os.getpid(), number)), DELETED) as (server, url):
        assert run(["webhooks", "listen", "--subscribe", "a", "--url", url]) == 130
    assert server.asked[-1][0] == "DELETE"
    assert capsys.readouterr().out == ""


def test_a_subscription_that_stays_is_told(capsys):
    gone = refusal(503, "Draining", "It stops")
    with serving(created(lambda _: os.kill(os.getpid(), signal.SIGINT)), gone) as (_, url):
        assert run(["webhooks", "listen", "--subscribe", "a", "--url", url]) == 130
    assert "The subscription sub_1 stays: Draining (503): It stops" in capsys.readouterr().err


def test_a_refused_subscription_ends_it_with_the_refusals_code(capsys):
    with serving(refusal(403, "Forbidden", "Beyond scope")) as (_, url):
        assert run(["webhooks", "listen", "--subscribe", "a", "--url", url]) == 4
    assert "Forbidden (403)" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert run(["webhooks", "listen", "--port", port]) == 1
    assert f"cannot listen at 127.0.0.1 port {port}" in capsys.readouterr().err


def test_a_secret_of_the_users_verifies_without_a_subscription(capsys):
    port = free_port()
    threading.Thread(target=deliver_when_open, args=(port, "the secret")).start()
    arguments = ["--secret", "the secret", "--port", str(port), "--count", "1", "--delay", "10"]
    assert run(["webhooks", "listen", *arguments]) == 0
    assert "204  verified  a.b  evt_1  attempt 1" in capsys.readouterr().out


def deliver_when_open(port, secret):
    for _ in range(1000):
        with socket.socket() as probe:
            probe.settimeout(5)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        threading.Event().wait(0.01)  # nothing tells when it listens but that it does
    deliver(f"http://127.0.0.1:{port}/", secret)
