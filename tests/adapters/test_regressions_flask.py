"""What is malformed in an app's set-up is told at set-up, not by the first request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from statekit import AsyncStateKit, StateKit
from statekit.errors import UsageError
from statekit_flask import StatekitFlask


def wired(**options: Any) -> StatekitFlask:
    return StatekitFlask(Flask("app"), options.pop("kit", None) or StateKit.in_memory(), **options)


def limited(*limits: Any, **options: Any) -> Any:
    return wired().limit(*limits, **options)(lambda: "")


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "default limit": (lambda: wired(default_limits=["fast"]), "limit 'fast' is malformed"),
    "default limits of a number": (lambda: wired(default_limits=5), "default_limits=5: give a list"),
    "asyncio kit": (lambda: wired(kit=AsyncStateKit.in_memory()), "the blocking one"),
    "limit": (lambda: limited("fast"), "limit 'fast' is malformed"),
    "number": (lambda: limited(5), "limit 5 is int"),
    "algorithm": (lambda: limited("5/minute", algorithm="best"), "algorithm='best'"),
    "algorithm of computed limits": (lambda: limited(lambda: "5/minute", on_outage="x"), "on_outage='x'"),
    "key": (lambda: limited("5/minute", key=5), "key=5"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_set_up_is_refused_at_once(name: str) -> None:
    call, message = BAD[name]
    with pytest.raises(UsageError, match=message):
        call()
