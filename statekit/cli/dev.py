"""``statekit dev``: the embedded server of this project."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from statekit.store.embedded import Embedded

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def dev(
    home: Annotated[
        str | None, typer.Option(help="Where it lives; the project's .statekit by default.")
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="End it; what it holds stays on disk.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run the embedded server of this project and print its URL.

    All processes of the project on this machine share it; it goes on running until --stop.
    """
    server = Embedded(home)
    ended = server.stop() if stop else False
    url = None if stop else server.start()
    facts = {"url": url, "pid": server.pid if url else None, "home": str(server.home), "stopped": ended}
    if as_json:
        typer.echo(json.dumps(facts))
    elif url:
        typer.echo(url)
    else:
        typer.echo("stopped" if ended else "it was not running")
