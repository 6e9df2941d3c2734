"""``statekit limits``: look at or reset what a rate limit has counted for a key."""

from __future__ import annotations

from typing import Annotated

import typer

from statekit.cli._common import AsJson, Namespace, Url, opened, print_columns, print_json
from statekit.errors import StoreUnavailable
from statekit.kit import StateKit
from statekit.ratelimit.faces import RateLimiter

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="The limiter's name.")]
Limits = Annotated[str, typer.Argument(help='Its limits, as in the code: "5/minute,100/hour".')]
Key = Annotated[str, typer.Argument(help="Whom it counts: an address, an API key.")]
Algorithm = Annotated[str, typer.Option(help="The limiter's algorithm, as in the code.")]


@app.callback()
def limits() -> None:
    """Look at or reset what a rate limit has counted."""


@app.command()
def peek(
    name: Name,
    limits: Limits,
    key: Key,
    algorithm: Algorithm = "sliding-log",
    url: Url = None,
    namespace: Namespace = "statekit",
    as_json: AsJson = False,
) -> None:
    """Say what a hit would be answered, without counting one. Exit code 1 if it would be refused."""
    with opened(url, namespace) as kit:
        found = _limiter(kit, name, limits, algorithm).peek(key)
    if found.degraded:
        raise StoreUnavailable("the store went away; what is counted cannot be told")
    if as_json:
        print_json({"allowed": found.allowed, "limits": found.limits})
    else:
        rows = [
            (
                f"{one.limit}",
                one.remaining,
                "refused" if one.refused else "allowed",
                one.retry_after,
                one.reset_after,
            )
            for one in found.limits
        ]
        print_columns(("LIMIT", "REMAINING", "A HIT NOW", "RETRY AFTER S", "RESET AFTER S"), rows)
    if not found.allowed:
        raise typer.Exit(1)


@app.command()
def reset(
    name: Name,
    limits: Limits,
    key: Key,
    algorithm: Algorithm = "sliding-log",
    url: Url = None,
    namespace: Namespace = "statekit",
    as_json: AsJson = False,
) -> None:
    """Forget what was counted for a key. Exit code 1 if nothing was."""
    with opened(url, namespace) as kit:
        done = _limiter(kit, name, limits, algorithm).reset(key)
    if as_json:
        print_json({"key": key, "reset": done})
    else:
        typer.echo("reset" if done else "nothing was counted for this key")
    if not done:
        raise typer.Exit(1)


def _limiter(kit: StateKit, name: str, limits: str, algorithm: str) -> RateLimiter:
    return kit.rate_limiter(name, *map(str.strip, limits.split(",")), algorithm=algorithm)
