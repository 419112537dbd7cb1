"""Rosters in a state that tests begin with."""

from random import Random

from econeura_daemon.resilience import Roster, balancer, pick


def roster_of(weights, now=0.0):
    roster = Roster()
    for key, weight in weights.items():
        roster.join(key, now, weight)
    return roster


def picks(name, roster, count, rng=None, now=0.0, skip=()):
    chooser, rng = balancer(name), rng or Random(1)
    return [pick(chooser, roster, now, rng, skip).key for _ in range(count)]


def known(latencies, now=0.0):
    """Return a roster whose members have answered often, in so many seconds."""
    return taught(roster_of(dict.fromkeys(latencies, 1.0), now), latencies)


def taught(roster, latencies):
    for key, latency in latencies.items():
        member = roster.members[key]
        member.cost, member.answers = latency, 1e9
        roster._changed(member)
    return roster


def answer(roster, key, now, latency, **how):
    member = roster.members[key]
    roster.begin(member, now)
    roster.end(member, now, latency, **how)
