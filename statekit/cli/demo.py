"""``statekit demo``: the proof. ``statekit demo serve``: just the pods."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def demo(
    context: typer.Context,
    quick: Annotated[bool, typer.Option("--quick", help="A shorter run: under 75 seconds in all.")] = False,
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("report"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the report's JSON, not a table.")] = False,
) -> None:
    """Run the demo app as several pods under load, three ways, and report what was lost in each.

    State in the memory of the processes; in memory behind sticky routing; in the shared store. Writes
    index.html and report.json. Exit code 1 when the shared variant breaks one of its promises.
    """
    if context.invoked_subcommand is None:
        _need_extras()
        from demo_app.proof import prove  # noqa: PLC0415 - needs the extra `demo`

        raise typer.Exit(prove(out, quick=quick, as_json=as_json))


@app.command()
def serve(
    state: Annotated[str, typer.Option(help="memory, sticky or shared.")] = "shared",
    pods: Annotated[int, typer.Option(min=1, max=64, help="How many pods.")] = 3,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes in each pod.")] = 2,
    port: Annotated[int, typer.Option(min=0, max=65535, help="First pod's port; 0: any free ones.")] = 8001,
) -> None:
    """Run just the pods until SIGTERM or Ctrl-C; prints one line of JSON when all are ready.

    Shared state lives in $STATEKIT_URL; without it, in a server that is started for this run and ends with it.
    """
    _need_extras()
    from demo_app.serve import serve as run  # noqa: PLC0415 - needs the extra `demo`

    raise typer.Exit(run(state, pods, workers, port))


def _need_extras() -> None:
    missing = [name for name in ("flask", "gunicorn", "locust", "rich") if find_spec(name) is None]
    if missing:
        typer.echo(f"statekit: {missing[0]} is not installed; run: pip install 'statekit[demo]'", err=True)
        raise typer.Exit(2)
