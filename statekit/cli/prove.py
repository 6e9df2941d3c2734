"""``statekit prove``: one process against several pods, under the same load."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from statekit.errors import UsageError

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def prove(  # noqa: PLR0913, PLR0917 - the options of a command are the arguments of its function
    target: Annotated[str, typer.Argument(metavar="APP", help="pkg.mod:app, or pkg.mod:create_app()")] = "",
    locustfile: Annotated[Path, typer.Option("--locustfile", "-f", help="Your locustfile.")] = Path(
        "locustfile.py"
    ),
    command: Annotated[str, typer.Option(help='Serve it otherwise: "… --port {port}".')] = "",
    pods: Annotated[int, typer.Option(min=2, max=32, help="How many pods.")] = 3,
    seconds: Annotated[
        float, typer.Option(min=2, max=600, help="How long each of the three runs is.")
    ] = 20.0,
    users: Annotated[int, typer.Option(min=1, max=1000, help="How many visitors.")] = 20,
    env: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE for the pods; {run}, {pod} stand for theirs.")
    ] = None,
    ready: Annotated[str, typer.Option(help="A path each pod is asked for until it answers.")] = "/",
    seed: Annotated[int, typer.Option(help="Another seed, other steps of the visitors.")] = 1,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for index.html and report.json.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report's JSON.")] = False,
) -> None:
    """Run an app as one process, then as several pods with a rolling restart; report where they differ.

    The load is your own locustfile; each request goes to the next pod, nobody stays with one. Loopback only. Exit
    code 0: no endpoint diverges; 1: some do, or a process failed; 2: bad usage.
    """
    _need_extras()
    from statekit.prove import report  # noqa: PLC0415 - what only this command needs
    from statekit.prove.apps import app_of  # noqa: PLC0415
    from statekit.prove.children import ChildFailed, interruptible  # noqa: PLC0415
    from statekit.prove.run import Course, environment_of, prove  # noqa: PLC0415

    if not locustfile.is_file():
        raise UsageError(f"--locustfile {locustfile} is no file")
    course = Course(pods, seconds, users, seed, ready, _pairs(env or []))
    served = app_of(target, command, environment_of(course, "probe", 1))
    interruptible()
    folder = Path(tempfile.mkdtemp(prefix="statekit-prove-"))
    try:
        proof = prove(served, locustfile, course, folder, lambda step: typer.echo(step, err=True))
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        typer.echo("stopped; nothing was left running", err=True)
        raise typer.Exit(130) from None
    except (ChildFailed, OSError) as error:
        typer.echo(f"statekit: {error}\nlogs: {folder}", err=True)
        raise typer.Exit(1) from error
    made = json.dumps(report.document(proof), indent=2) + "\n"
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").write_text(made, encoding="utf-8")
        (out / "index.html").write_text(report.page(proof), encoding="utf-8")
    sys.stdout.write(made if as_json else report.text(proof))
    _tidy(folder, keep=any(one.pods.failed for one in proof.result.endpoints))
    raise typer.Exit(1 if proof.result.diverging else 0)


def _tidy(folder: Path, *, keep: bool) -> None:
    """Keep the logs where requests failed."""
    if keep:
        typer.echo(f"logs: {folder}", err=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _pairs(given: list[str]) -> dict[str, str]:
    for one in given:
        if "=" not in one:
            raise UsageError(f"--env {one!r}: write NAME=VALUE")
    return dict(one.split("=", 1) for one in given)


def _need_extras() -> None:
    missing = [name for name in ("locust", "gunicorn") if find_spec(name) is None]
    if missing:
        typer.echo(f"statekit: {missing[0]} is not installed; run: pip install 'statekit[demo]'", err=True)
        raise typer.Exit(2)
