"""``statekit top``: the fleet at a glance, again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from statekit.cli._common import AsJson, Namespace, Url, opened, print_json, shown
from statekit.cli.pools import fleet_of
from statekit.errors import StoreError
from statekit.flags.explain import FlagRevision
from statekit.kit import StateKit
from statekit.pools.core import FleetView
from statekit.replica.core import Worker

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

LATEST = 5
"""Writes of flags that are shown."""


@dataclass(frozen=True, slots=True)
class Glance:
    """What the fleet looks like at one moment."""

    at: datetime
    ping_ms: float
    version: int
    workers: tuple[Worker, ...]
    writes: tuple[FlagRevision, ...]
    pools: tuple[FleetView, ...]


@app.command()
def top(
    pool: Annotated[list[str] | None, typer.Option(help="A pool to watch, as often as needed.")] = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
    url: Url = None,
    namespace: Namespace = "statekit",
    as_json: AsJson = False,
) -> None:
    """Watch the fleet: live processes, the flag version each shows, latest writes, pools. Ctrl-C ends it."""
    with opened(url, namespace) as kit:
        if as_json:
            print_json(_facts(_look(kit, pool or ())))
        elif once or not sys.stdout.isatty():
            _console().print(_page(_look(kit, pool or ()), kit))
        else:
            with suppress(KeyboardInterrupt), _live() as live:
                _watch(kit, pool or (), partial(live.update, refresh=True), partial(time.sleep, every))


def _console() -> Console:
    """A console that takes names for what they are: not for markup, not for emoji."""
    return Console(markup=False, emoji=False)


def _live() -> Live:
    return Live(console=_console(), screen=True, auto_refresh=False)


def _watch(
    kit: StateKit, pools: Sequence[str], show: Callable[[Any], None], pause: Callable[[], None]
) -> None:
    while True:
        try:
            show(_page(_look(kit, pools), kit))
        except StoreError as error:
            show(Text(f"the store does not answer: {error}", style="bold red"))
        pause()


def _look(kit: StateKit, pools: Sequence[str]) -> Glance:
    ping = kit.ping() * 1000
    writes = kit.flags.history(limit=LATEST)
    version = writes[0].version if writes else 0
    views = tuple(fleet_of(kit, name) for name in pools)
    return Glance(datetime.now(UTC), ping, version, kit.flags.workers(), writes, views)


def _facts(glance: Glance) -> dict[str, object]:
    return {
        "at": glance.at,
        "ping_ms": round(glance.ping_ms, 3),
        "flags_version": glance.version,
        "workers": glance.workers,
        "pools": [
            {"pool": one.pool, "budget": one.budget if one.processes else None, "processes": one.processes}
            for one in glance.pools
        ],
    }


def _page(glance: Glance, kit: StateKit) -> Group:
    head = f"{kit.describe()}   ping {glance.ping_ms:.2f} ms   flags at version {glance.version}   {shown(glance.at)} UTC"
    return Group(Text(head, style="bold"), _workers(glance), _writes(glance), *map(_pool, glance.pools))


def _workers(glance: Glance) -> Table:
    table = Table("process", "shows flags", "silent for s", title=f"live processes: {len(glance.workers)}")
    for one in glance.workers:
        behind = one.version < glance.version
        table.add_row(shown(one.name), str(one.version), shown(one.silent), style="yellow" if behind else "")
    return table


def _writes(glance: Glance) -> Table:
    table = Table("version", "at (UTC)", "flag", "by", "reason", title="latest writes")
    for one in glance.writes:
        table.add_row(*map(shown, (one.version, one.at, one.name, one.by, one.reason)))
    return table


def _pool(view: FleetView) -> Table:
    title = f"pool {shown(view.pool)}: {view.open} open of {view.budget if view.processes else '-'}"
    table = Table("process", "share", "open", "in use", "waiting", title=title)
    for one in view.processes:
        table.add_row(*map(shown, (one.worker, one.share, one.open, one.in_use, one.waiting)))
    return table
