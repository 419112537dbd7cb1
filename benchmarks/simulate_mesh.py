"""The mesh under load that no test machine bears: simulated, with the daemon's own policies, on a clock that jumps.

python -m benchmarks.simulate_mesh [--quick] [--json FILE]

Three tables: two random choices beside the theory of them, one slow host among ten by each balancer, and a service
that is slow for five seconds while calls go on coming.
"""

import argparse
import json
import time
from collections.abc import Collection
from math import inf
from pathlib import Path
from random import Random

from benchmarks.harness.load import Load, steady
from benchmarks.harness.storm import ALL, Parts, Storm, Trouble, run
from econeura_daemon.core.settings import MeshSettings
from econeura_daemon.resilience import Member, Roster, balancer

LOADS = (0.5, 0.7, 0.8, 0.9, 0.95)
HOSTS = 100
SERVICE = 0.01
"""Seconds that a request takes on average."""
PLAIN = Parts(budget=False, limit=False, breakers=False)
PARTS = {
    "no retries, nothing else": Parts(retries=0, budget=False, limit=False, breakers=False),
    "3 retries with full jitter, nothing else": PLAIN,
    "the same within the budget": Parts(limit=False, breakers=False),
    "the same and limits": Parts(breakers=False),
    "the same and breakers, each for itself": Parts(hurry=False),
    "all parts": ALL,
}
REFUSES = Trouble(refuses=True)
STORMS = {
    "ten times slower": Storm(),
    "twice slower": Storm(trouble=Trouble(slower=2.0)),
    "answering 503": Storm(trouble=Trouble(status=503)),
    "refusing connections": Storm(trouble=REFUSES),
    "half of them ten times slower": Storm(ill=5),
    "three hosts, ten times slower": Storm(hosts=3, at_once=17),
    "two hosts, ten times slower": Storm(hosts=2, at_once=25),
    "ten times slower, from the first call": Storm(before=1.0),
    "ten times slower for 20 s": Storm(lasts=20.0),
    "refusing connections for 20 s": Storm(lasts=20.0, trouble=REFUSES),
    "ten times slower, timeouts of 30 and 10 s": Storm(settings=MeshSettings()),
}


class Cheaper:
    """Two random choices, the cheaper of them: not offered, for `least_cost` looks at everybody."""

    def choose(self, roster: Roster, rng: Random, skip: Collection[Member]) -> Member | None:
        one, other = rng.sample([member for member in roster.usable if member not in skip], 2)
        return one if roster.costs[one.place] <= roster.costs[other.place] else other


def two_choices_in_theory(load):
    """Return the mean time in the system, in service times, with infinitely many hosts (Mitzenmacher 2001)."""
    return sum(load ** (2**i - 2) for i in range(1, 30))


def supermarket(load, calls, seed=1):
    """Return the mean time in the system, in service times, with the daemon's two choices among a hundred hosts."""
    rate = load * HOSTS / SERVICE
    service = Load(balancer("p2c"), {n: steady(SERVICE) for n in range(HOSTS)}, Random(seed), rate, at_once=1)
    seconds = calls / rate
    service.run(seconds)
    return service.mean(since=seconds / 4) / SERVICE


def slow_host(name, seconds=20.0, seed=1):
    """Return the p99 in ms of the last half: 2,000 calls/s, eight at once a host, 10 ms, and on one of ten 100."""
    chosen = Cheaper() if name == "the cheaper of two" else balancer(name)
    hosts = {n: steady(0.01) for n in range(9)} | {"slow": steady(0.1)}
    load = Load(chosen, hosts, Random(seed), 2000, at_once=8)
    load.run(seconds)
    return 1000 * load.percentile(0.99, since=seconds / 2)


def course_of(storm, parts=ALL):
    course = run(storm, parts)
    begin, end = storm.before, storm.before + storm.lasts
    return {
        "recovery_s": None if course.recovery == inf else course.recovery,
        "answered_in_trouble": course.answered(begin, end),
        "answered_in_15_s_after": course.answered(end, end + 15),
        "attempts_a_call": course.amplification,
        "worst_second": course.peak,
    }


def print_supermarket(calls):
    print(f"Two random choices, {HOSTS} hosts, one request at once: mean time in service times")
    print(f"{'load':>6}{'simulated':>12}{'theory':>9}{'':3}ratio")
    rows = []
    for load in LOADS:
        found, theory = supermarket(load, calls), two_choices_in_theory(load)
        rows.append({"load": load, "simulated": found, "theory": theory})
        print(f"{load:6.2f}{found:12.3f}{theory:9.3f}{found / theory:8.3f}", flush=True)
    return rows


def print_slow_host():
    print("\nOne of ten hosts ten times slower, 2,000 calls/s: p99 in ms, after 20 s and after 40 s")
    rows = {}
    names = ("round_robin", "random", "least_connections", "p2c", "the cheaper of two", "least_cost")
    for name in names:
        short, long = slow_host(name, 20.0), slow_host(name, 40.0)
        rows[name] = [short, long]
        print(f"{name:22}{short:10.1f}{long:10.1f}{'   unstable' if long > 1.5 * short else ''}", flush=True)
    return rows


def print_courses(title, courses):
    print(f"\n{title}")
    print(
        f"{'':42}{'95 % again':>11}{'answered':>10}{'within 15 s':>13}{'attempts':>10}{'worst':>8}\n"
        f"{'':42}{'after, s':>11}{'meanwhile':>10}{'after it':>13}{'a call':>10}{'second':>8}"
    )
    rows = {}
    for name, (storm, parts) in courses.items():
        row = rows[name] = course_of(storm, parts)
        after = "never" if row["recovery_s"] is None else f"{row['recovery_s']:.0f}"
        print(
            f"{name:42}{after:>11}{row['answered_in_trouble']:10.0%}{row['answered_in_15_s_after']:13.0%}"
            f"{row['attempts_a_call']:10.2f}{row['worst_second']:8.2f}",
            flush=True,
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer calls, and the first storms alone")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    begun = time.perf_counter()
    result = {
        "supermarket": print_supermarket(60_000 if arguments.quick else 400_000),
        "slow_host": print_slow_host(),
        "storm": print_courses(
            "700 calls/s, ten hosts good for 1,000, all ten times slower for 5 s",
            {name: (Storm(), parts) for name, parts in PARTS.items()},
        ),
    }
    if not arguments.quick:
        result["troubles"] = print_courses(
            "All parts, and other troubles of 5 s", {name: (storm, ALL) for name, storm in STORMS.items()}
        )
    print(f"\n{time.perf_counter() - begun:.0f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
