"""Rate limits: how often a caller may do something, counted once for all processes."""

from statekit.ratelimit.decision import Decision, HeaderStyle, LimitState
from statekit.ratelimit.faces import AsyncRateLimiter, RateLimiter
from statekit.ratelimit.limits import Limit
from statekit.ratelimit.reservation import AsyncReservation, Reservation
from statekit.ratelimit.rule import Algorithm, OnOutage

__all__ = [
    "Algorithm",
    "AsyncRateLimiter",
    "AsyncReservation",
    "Decision",
    "HeaderStyle",
    "Limit",
    "LimitState",
    "OnOutage",
    "RateLimiter",
    "Reservation",
]
