"""The proof: three variants, one after the other, a table in the terminal and a report on disk."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from redis import Redis
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from demo_app.pods import Plan
from demo_app.report import TITLES, write
from demo_app.report.promises import CONTEXT, PROMISES, Row, broken
from demo_app.serve import store_for
from demo_app.settings import State
from demo_app.trial import FULL, QUICK, Course, Outcome, trial
from statekit import StatekitError
from statekit.prove.children import ChildFailed, interruptible

__all__ = ["prove"]

ROOM = 400_000
"""Bytes a report takes at most."""
REPORTED = ("statekit", "flask", "gunicorn", "locust", "redis")


def prove(out: Path, *, quick: bool, as_json: bool = False) -> int:
    """Run the three variants and write the report; returns the exit code.

    1 when the shared variant broke a promise, or something failed; then what failed is said in words. No
    process is left behind in any case.
    """
    interruptible()
    console = Console(stderr=True)
    try:
        with _writing(out):
            _probe(out)
        with tempfile.TemporaryDirectory(prefix="statekit-demo-") as folder:
            outcomes, server = _run(QUICK if quick else FULL, Path(folder), console)
        with _writing(out):
            made = write(out, outcomes, _conditions(QUICK if quick else FULL, server))
    except KeyboardInterrupt:
        console.print("stopped; nothing was left running, no report was written")
        return 130
    except (ChildFailed, StatekitError, OSError) as error:
        console.print(f"[bold red]the demo failed:[/] {error}", highlight=False)
        return 1
    if as_json:
        sys.stdout.write(json.dumps(made, indent=2) + "\n")
    else:
        _tell(made, out)
    return 1 if broken(made["variants"][State.SHARED]) else 0


def _run(course: Course, folder: Path, console: Console) -> tuple[list[Outcome], str]:
    with _progress(console) as progress:
        bars = {state: progress.add_task(state, total=1.0, step="") for state in State}
        with store_for(State.SHARED) as store:
            server = _server(store)
            outcomes = [_variant(state, course, folder, store, progress, bars[state]) for state in State]
    return outcomes, server


def _variant(
    state: State, course: Course, folder: Path, store: str, progress: Progress, bar: TaskID
) -> Outcome:
    progress.start_task(bar)
    plan = Plan(state, store=store, namespace=f"demo-{os.urandom(4).hex()}")
    outcome = trial(
        plan,
        course.of(state),
        folder / state,
        lambda step, done: progress.update(bar, completed=done, step=step),
    )
    progress.update(bar, completed=1.0, step=f"{len(outcome.sightings):,} requests")
    return outcome


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description:<7}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[step]}"),
        console=console,
    )


@contextlib.contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Name the folder when something cannot be written to it."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"the report cannot be written to {out}: {error.strerror}; give another --out"
        ) from error


def _probe(out: Path) -> None:
    """Fail before three minutes of work, not after."""
    out.mkdir(parents=True, exist_ok=True)
    probe = out / ".probe"
    try:
        probe.write_text("x" * ROOM)
    finally:
        probe.unlink(missing_ok=True)


def _conditions(course: Course, server: str) -> dict[str, Any]:
    plan = Plan(State.SHARED)
    return {
        "server": server,
        "versions": {"python": sys.version.split()[0], **_versions()},
        "cores": os.cpu_count(),
        "pods": plan.pods,
        "workers": plan.workers,
        "users": course.users,
        "seconds": course.seconds,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in REPORTED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _server(store: str) -> str:
    """What answers at the store's URL, in words."""
    known = Redis.from_url(store).info("server")
    return (
        f"Valkey {known['valkey_version']}"
        if "valkey_version" in known
        else f"Redis {known['redis_version']}"
    )


def _tell(made: Mapping[str, Any], out: Path) -> None:
    """Print the table, and what was broken."""
    console = Console() if sys.stdout.isatty() else Console(width=124)
    variants = made["variants"]
    table = Table(title="What the visitors saw", title_justify="left")
    table.add_column("", no_wrap=True)
    table.add_column("promised", justify="right", style="dim")
    for name in variants:
        table.add_column(TITLES[State(name)][0], justify="right")
    for row in (*PROMISES, *CONTEXT):
        table.add_row(row.what, row.promise, *(_cell(row, variants[name]) for name in variants))
    console.print(table)
    console.print(f"report: {out / 'index.html'} · {out / 'report.json'}", highlight=False, soft_wrap=True)
    for promise in broken(variants[State.SHARED]):
        console.print(f"[bold red]broken promise[/] {promise}", highlight=False)


def _cell(row: Row, figures: Mapping[str, Any]) -> str:
    shown = row.shown(figures)
    if row.kept is None:
        return shown
    return f"[green]{shown} ✓[/]" if row.kept(figures) else f"[red]{shown} ✗[/]"
