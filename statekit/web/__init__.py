"""What adapters for web frameworks share: no framework, no I/O.

Rules of limits and their names, callers, addresses, the session of a request, problem documents and header
fields: what is equal in every framework is written here once, and each adapter adds what is its framework's.
Nothing else in statekit imports this.
"""

from statekit.web.addresses import TrustedProxies, network
from statekit.web.admission import admitting, deciding
from statekit.web.callers import Kind, caller_name, digest, header_name, kind_of, named_kind
from statekit.web.fields import announced, governing
from statekit.web.problems import (
    MEDIA_TYPE,
    Problem,
    ReducedCapacity,
    Refusal,
    TooManyRequests,
    problem_of,
    refusal,
)
from statekit.web.rules import Marks, Rule, builder, default_rules, label, mark, marks
from statekit.web.session import RequestSession

__all__ = [
    "MEDIA_TYPE",
    "Kind",
    "Marks",
    "Problem",
    "ReducedCapacity",
    "Refusal",
    "RequestSession",
    "Rule",
    "TooManyRequests",
    "TrustedProxies",
    "admitting",
    "announced",
    "builder",
    "caller_name",
    "deciding",
    "default_rules",
    "digest",
    "governing",
    "header_name",
    "kind_of",
    "label",
    "mark",
    "marks",
    "named_kind",
    "network",
    "problem_of",
    "refusal",
]
