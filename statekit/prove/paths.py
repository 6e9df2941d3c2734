"""What an endpoint is called: the method, and the path without what is somebody's in it."""

from __future__ import annotations

import re

__all__ = ["endpoint_of", "guessed"]

VARIES = re.compile(r"\d+|[0-9a-fA-F]{8,}|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|.{33,}|[^/]*[@%][^/]*")
"""Segments of a path that look like somebody's: numbers, digests, UUIDs, anything long, addresses."""


def endpoint_of(method: str, name: str) -> str:
    """The endpoint of a request: ``GET /users/{…}``; a name that begins with the method is kept as it is."""
    if name.startswith(f"{method} "):
        return name
    return f"{method} {guessed(name.partition('?')[0])}"


def guessed(path: str) -> str:
    """A path with segments that look like somebody's taken out."""
    return "/".join("{…}" if VARIES.fullmatch(one) else one for one in path.split("/"))
