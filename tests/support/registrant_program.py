"""A service that registers itself, a program of its own: `LOOP PORT TTL`. It does what it is told on standard input."""

import asyncio
import signal
import sys

import anyio
import trio

from econeura_daemon.registrant import registered


def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def main():
    port, ttl = int(sys.argv[2]), float(sys.argv[3])
    async with registered("orders", "127.0.0.1", port, ttl=ttl, start_timeout=5) as service:
        say(service.id, service.is_registered)
        while True:
            match (await anyio.to_thread.run_sync(sys.stdin.readline)).strip():
                case "leave":
                    return
                case "raise":
                    raise LookupError("as told")
                case "cancel":
                    with anyio.CancelScope() as scope:
                        scope.cancel()
                        async with registered("orders", "127.0.0.1", port, instance_id="inner", ttl=ttl):
                            await anyio.sleep_forever()
                    say("cancelled")
                case "drain":
                    await service.drain()
                    say(service.status)
                case "look":
                    say(service.is_registered, service.last_error)


# A shell that runs the tests in the background has its jobs, and whatever those start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
if sys.argv[1] == "trio":
    trio.run(main)
else:
    asyncio.run(main())
