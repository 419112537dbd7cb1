"""The primitives beside trio.CapacityLimiter, and what a balancer's pick costs with how many instances.

python -m benchmarks.primitives [--quick]

Each figure is the best of several rounds; a ratio is that of two bests of one run. Where `aiobreaker` and `purgatory`
are installed (they are no dependencies), their breakers stand beside ours, on asyncio's loop.
"""

import argparse
import asyncio
import importlib.util
import time
from random import Random

import trio

from econeura_daemon.primitives import AdaptiveLimiter, Bulkhead, CircuitBreaker, RateLimiter, RetryBudget
from econeura_daemon.resilience import BALANCERS, Roster, balancer, pick
from econeura_daemon.resilience.outcomes import Verdict

SIZES = (3, 10, 20, 100, 1000)


def best(call, times, rounds=7):
    """Return the nanoseconds of one call, in the best of the rounds."""
    found = []
    for _ in range(rounds):
        begun = time.perf_counter_ns()
        for _ in range(times):
            call()
        found.append((time.perf_counter_ns() - begun) / times)
    return min(found)


async def best_of_blocks(primitive, times, rounds=7):
    """Return the nanoseconds of one ``async with`` that nobody disputes."""
    found = []
    for _ in range(rounds):
        begun = time.perf_counter_ns()
        for _ in range(times):
            async with primitive:
                pass
        found.append((time.perf_counter_ns() - begun) / times)
    return min(found)


def roster_of(size, rng):
    roster = Roster()
    for key in range(size):
        member = roster.join(key, 0.0)
        roster.begin(member, 0.0)
        roster.end(member, 0.01, rng.uniform(0.005, 0.02))
    return roster


def picks(times):
    print("\na pick, ns" + "".join(f"{size:>9}" for size in SIZES))
    for name in BALANCERS:
        row = []
        for size in SIZES:
            rng = Random(1)
            roster, chooser = roster_of(size, rng), balancer(name)
            row.append(best(lambda: pick(chooser, roster, 60.0, rng), max(200, times // size)))  # noqa: B023
        print(f"{name:22}" + "".join(f"{figure:9.0f}" for figure in row))


def whole_calls(times):
    """Pick, limit, breaker, and telling all of them how it ended: what a call costs without its I/O."""
    print("\npick + limit + breaker + outcome, us")
    for size in SIZES:
        rng, roster, chooser = Random(1), roster_of(size, Random(1)), balancer()
        limiters = [AdaptiveLimiter() for _ in range(size)]
        breakers = [CircuitBreaker() for _ in range(size)]

        def call(rng=rng, roster=roster, chooser=chooser, limiters=limiters, breakers=breakers):
            now, borrower = trio.current_time(), roster
            member = pick(chooser, roster, now, rng)
            limiter, breaker = limiters[member.key], breakers[member.key]
            limiter.acquire_on_behalf_of_nowait(borrower)
            breaker.acquire_on_behalf_of_nowait(borrower)
            roster.begin(member, now)
            roster.end(member, now + 0.01, 0.01)
            breaker.release_on_behalf_of(borrower, Verdict.SUCCESS)
            limiter.release_on_behalf_of(borrower)

        print(f"{size:>6} instances {best(call, max(200, times // 20)) / 1000:8.2f}")


def nowait(name, one):
    borrower = object()

    def call():
        one.acquire_on_behalf_of_nowait(borrower)
        one.release_on_behalf_of(borrower)

    return name, call


async def on_trio(times):
    limiter = trio.CapacityLimiter(20)
    floor = await best_of_blocks(limiter, times // 10)
    print(f"\nasync with, us (trio.CapacityLimiter = 1)\n{'trio.CapacityLimiter':22}{floor / 1000:8.2f}")
    ours = (Bulkhead(20), AdaptiveLimiter(), CircuitBreaker(), RateLimiter(1e9, 1e9), RetryBudget())
    for one in ours:
        figure = await best_of_blocks(one, times // 10)
        print(f"{type(one).__name__:22}{figure / 1000:8.2f}{figure / floor:8.2f}")

    name, call = nowait("trio.CapacityLimiter", limiter)
    floor = best(call, times)
    print(f"\nacquire_nowait and release, us (trio.CapacityLimiter = 1)\n{name:22}{floor / 1000:8.2f}")
    for one in ours:
        if not isinstance(one, RateLimiter):
            name, call = nowait(type(one).__name__, one)
            figure = best(call, times)
            print(f"{name:22}{figure / 1000:8.2f}{figure / floor:8.2f}")
    figure = best(RateLimiter(1e9, 1e9).acquire_nowait, times)
    print(f"{'RateLimiter':22}{figure / 1000:8.2f}{figure / floor:8.2f}   (nothing to release)")
    whole_calls(times)


async def best_of_rivals(call, times, rounds=7):
    found = []
    for _ in range(rounds):
        begun = time.perf_counter_ns()
        for _ in range(times):
            await call()
        found.append((time.perf_counter_ns() - begun) / times)
    return min(found)


async def on_asyncio(times):
    async def nothing():
        pass

    rivals = {"asyncio.Semaphore": None}
    semaphore = asyncio.Semaphore(20)

    async def hold():
        async with semaphore:
            pass

    rivals["asyncio.Semaphore"] = hold
    if importlib.util.find_spec("aiobreaker"):
        aiobreaker = importlib.import_module("aiobreaker")
        breaker = aiobreaker.CircuitBreaker()
        rivals["aiobreaker"] = lambda: breaker.call_async(nothing)
    if importlib.util.find_spec("purgatory"):
        purgatory = importlib.import_module("purgatory")
        factory = purgatory.AsyncCircuitBreakerFactory()
        rival = await factory.get_breaker("workers")

        async def purge():
            async with rival:
                pass

        rivals["purgatory"] = purge
    print("\non asyncio, without a checkpoint, us")
    for name, call in rivals.items():
        print(f"{name:22}{await best_of_rivals(call, times // 10) / 1000:8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds")
    times = 5_000 if parser.parse_args().quick else 50_000
    picks(times)
    trio.run(on_trio, times)
    asyncio.run(on_asyncio(times))


if __name__ == "__main__":
    main()
