"""Decisions about calls, as pure values: now and rng are arguments, nothing awaits.

`econeura_daemon.primitives` makes Trio synchronisation primitives of them.
"""

from econeura_daemon.resilience.adaptive import AdaptivePolicy
from econeura_daemon.resilience.balancers import BALANCERS, Balancer, balancer, pick
from econeura_daemon.resilience.breaker import Breaker, Phase, State
from econeura_daemon.resilience.breaker_policy import BreakerPolicy
from econeura_daemon.resilience.bucket import TokenBucket
from econeura_daemon.resilience.budget import Budget, BudgetPolicy
from econeura_daemon.resilience.ejection import Ejection, EjectionPolicy, Ejector
from econeura_daemon.resilience.outcomes import End, Outcome, Verdict, answered, verdict_of_status
from econeura_daemon.resilience.panic import Availability, Candidates, candidates
from econeura_daemon.resilience.refusal import Refusal
from econeura_daemon.resilience.retry import GiveUp, Request, RetryAt, RetryPolicy, next_attempt
from econeura_daemon.resilience.roster import Member, Roster

__all__ = [
    "BALANCERS",
    "AdaptivePolicy",
    "Availability",
    "Balancer",
    "Breaker",
    "BreakerPolicy",
    "Budget",
    "BudgetPolicy",
    "Candidates",
    "Ejection",
    "EjectionPolicy",
    "Ejector",
    "End",
    "GiveUp",
    "Member",
    "Outcome",
    "Phase",
    "Refusal",
    "Request",
    "RetryAt",
    "RetryPolicy",
    "Roster",
    "State",
    "TokenBucket",
    "Verdict",
    "answered",
    "balancer",
    "candidates",
    "next_attempt",
    "pick",
    "verdict_of_status",
]
