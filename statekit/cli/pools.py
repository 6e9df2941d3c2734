"""``statekit pools``: every process's share of a connection budget."""

from __future__ import annotations

from typing import Annotated

import typer

from statekit.cli._common import AsJson, Namespace, Url, opened, print_columns, print_json, shown
from statekit.kit import StateKit
from statekit.pools.core import FleetView, PoolConfig, viewing
from statekit.store.keys import encoded

__all__ = ["app", "fleet_of"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

UNBOUNDED = 2**31


@app.command()
def pools(
    names: Annotated[list[str], typer.Argument(help="The pools, as the app registered them.")],
    url: Url = None,
    namespace: Namespace = "statekit",
    as_json: AsJson = False,
) -> None:
    """Show every process's share of pools, and what it has open, in use and waiting.

    Exit code 1 if no process has any of them.
    """
    with opened(url, namespace) as kit:
        found = [fleet_of(kit, name) for name in names]
    if as_json:
        print_json([_facts(view) for view in found])
    else:
        for view in found:
            _print(view)
    if not any(view.processes for view in found):
        raise typer.Exit(1)


def fleet_of(kit: StateKit, name: str) -> FleetView:
    """Read the fleet of a pool this process does not take part in."""
    key = kit.store.keys.of("pool", encoded(name, "pool name"))
    return kit.run(viewing(key, PoolConfig(name, per_process=1, fleet=UNBOUNDED), kit.store.now()))


def _budget(view: FleetView) -> int | None:
    return view.budget if view.processes else None


def _facts(view: FleetView) -> dict[str, object]:
    return {
        "pool": view.pool,
        "budget": _budget(view),
        "shares": view.shares,
        "open": view.open,
        "processes": view.processes,
        "conflict": view.conflict,
        "settling": view.settling,
    }


def _print(view: FleetView) -> None:
    typer.echo(f"{shown(view.pool)}: {view.open} open of {_budget(view) or '-'}")
    if view.conflict:
        typer.echo("  processes were given different budgets; the lowest holds", err=True)
    rows = [
        (one.worker, one.share, one.open, one.in_use, one.waiting, one.lease_left) for one in view.processes
    ]
    print_columns(("PROCESS", "SHARE", "OPEN", "IN USE", "WAITING", "LEASE LEFT S"), rows)
