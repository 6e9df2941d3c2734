"""Callers: what is the same, in every framework, about functions that say who a request is counted for.

Rule 1: keys of different kinds never meet, whatever a client sends: an address starts with ``ip=``, a
        principal with ``user=``, a header with ``header=``.
Rule 2: no key is ever missing: who cannot be told apart otherwise is counted by address.
Rule 3: a header may be a credential, so its digest is stored, never its text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from statekit.errors import UsageError

__all__ = ["Kind", "caller_name", "digest", "header_name", "kind_of", "named_kind"]

NAME = "__statekit_caller__"


class Kind(StrEnum):
    """What ``key=`` may say in words."""

    IP = "ip"
    USER = "user"
    HEADER = "header"


def kind_of(spec: object) -> tuple[Kind, str]:
    """Read ``"ip"``, ``"user"`` or ``"header:X-API-Key"``; raises `UsageError` for anything else."""
    kind, _, name = spec.partition(":") if isinstance(spec, str) else ("", "", "")
    if kind in tuple(Kind) and bool(name) == (kind == Kind.HEADER):
        return Kind(kind), name
    raise UsageError(f'key={spec!r}: give a function, "ip", "user" or "header:X-API-Key"')


def header_name(name: str) -> str:
    """Check the name of a header."""
    if not name or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f'header={name!r} is not the name of a header: for example by_header("X-API-Key")')
    return name


def digest(value: str) -> str:
    """What is stored in place of a header's value."""
    return hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def named_kind(function: Callable[..., Any], name: str) -> Any:
    """Give a function made for one limit a name that is the same in every process."""
    setattr(function, NAME, name)
    return function


def caller_name(function: Any) -> str:
    """A name for a caller that is the same in every process; part of the name of a limit."""
    known = getattr(function, NAME, None) or getattr(function, "__name__", None)
    return known if isinstance(known, str) else type(function).__name__
