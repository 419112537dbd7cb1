"""What new settings change for deliveries of a running daemon."""

from random import Random

import attrs
import trio

from econeura_daemon.core.clock import SystemClock
from econeura_daemon.core.settings import Settings
from econeura_daemon.supervision.reloading import Reloader
from econeura_daemon.webhooks import Lanes, Policies
from econeura_daemon.webhooks.sender import Sender
from econeura_daemon.wire import open_transport
from tests.support.receivers import OK, SETTINGS, answering, names, open_receiver, outgoing, read_request


async def test_limits_networks_and_routes_hold_for_the_next_attempt_and_nothing_else_is_disturbed():
    asked = []

    async def silent(stream):
        await read_request(stream)
        await trio.sleep_forever()

    with trio.fail_after(20):
        async with (
            open_receiver(answering(OK, asked)) as receiver,
            open_receiver(silent) as mute,
            open_transport(SETTINGS, resolve=names(hook__example=["127.0.0.1"])) as over,
        ):
            old = Settings(webhooks=SETTINGS)
            sender = Sender(over, SETTINGS, SystemClock(), Random(1))
            lanes = Lanes(SETTINGS.max_in_flight)
            reloader = Reloader(old, policies=Policies(SETTINGS), lanes=lanes, sender=sender, transport=over)

            def reload(**changed):
                webhooks = attrs.evolve(reloader.settings.webhooks, **changed)
                found = reloader.apply(attrs.evolve(old, webhooks=webhooks))
                assert found.live == tuple(f"webhooks.{name}" for name in changed)
                assert found.on_restart == ()

            async def attempt(to):
                return await sender.send(outgoing(to.url("hook.example")))

            assert (await attempt(receiver)).succeeded
            reload()
            reload(max_in_flight=7)
            assert (await attempt(receiver)).succeeded
            assert receiver.connections == 1

            reload(timeout_ms=50)
            assert (await attempt(mute)).error == "no answer within 50 ms"
            reload(timeout_ms=5000)

            reload(proxy=f"http://127.0.0.1:{receiver.port}")
            assert (await attempt(mute)).succeeded
            assert asked[-1][0][0] == f"POST {mute.url('hook.example')} HTTP/1.1"
            reload(proxy_hosts=("other.example",))
            assert (await attempt(receiver)).succeeded
            assert asked[-1][0][0] == "POST /hook HTTP/1.1"
            assert (receiver.connections, over.pool.idle) == (2, 1)

            reload(allowed_networks=())
            assert over.pool.idle == 0
            assert (await attempt(receiver)).refused
