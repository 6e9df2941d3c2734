"""What the commands share: options, a kit to work with, JSON or columns to print."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import typer
from pydantic_core import to_jsonable_python

from statekit.errors import DocumentInvalid
from statekit.kit import StateKit
from statekit.replica.core import Convergence
from statekit.store.codec import tree

__all__ = [
    "AsJson",
    "By",
    "Namespace",
    "Reason",
    "Url",
    "Wait",
    "json_or_text",
    "opened",
    "print_columns",
    "print_convergence",
    "print_json",
    "shown",
    "signature",
]

Url = Annotated[
    str | None,
    typer.Option("--url", help="The store; else $STATEKIT_URL, else this project's embedded server."),
]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", envvar="STATEKIT_NAMESPACE", help="The app's namespace.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
By = Annotated[str | None, typer.Option("--by", help="Who does this, for the history; you by default.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the history.")]
Wait = Annotated[
    float, typer.Option("--wait", min=0, help="Seconds to wait until every live process shows it.")
]


@contextmanager
def opened(url: str | None, namespace: str) -> Iterator[StateKit]:
    """A kit that answers from the store itself, never from a file of this host; fails at once if it is down."""
    kit = StateKit.connect(url, namespace, snapshot_dir=None)
    try:
        kit.ping()
        yield kit
    finally:
        kit.close()


def signature(by: str | None) -> str:
    """Who signs a write: as told, else the user of this shell."""
    if by is not None:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a passwd entry
        return "statekit-cli"


def json_or_text(text: str) -> Any:
    """Read a value from the command line: JSON if it is that, else the text itself."""
    try:
        return tree(text)
    except ValueError:
        return text


def json_object(text: str) -> dict[str, Any]:
    """Read a JSON object from the command line; raises `DocumentInvalid`."""
    try:
        given = tree(text)
    except ValueError as error:
        raise DocumentInvalid(f"{text!r:.80} is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise DocumentInvalid(f"{text!r:.80} is not a JSON object")
    return given


def print_json(value: Any) -> None:
    """Print anything statekit returns as indented JSON."""
    text = json.dumps(to_jsonable_python(value, fallback=_plain), indent=2, ensure_ascii=False)
    typer.echo("\n".join(map(_harmless, text.split("\n"))))


def _harmless(text: str) -> str:
    """Write out what a terminal might obey: names in a store may come from anybody."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)


def _plain(value: Any) -> Any:
    return dict(value) if hasattr(value, "keys") else str(value)


def print_columns(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows under headings, as wide as they need to be; nothing but the headings if there are none."""
    table = [tuple(map(shown, row)) for row in (headings, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo(line.rstrip())


def shown(value: Any) -> str:
    """One cell: moments to the second, nothing as a dash, the rest as people write it."""
    if value is None or value == "":
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, str):
        return _harmless(value)
    return _harmless(json.dumps(to_jsonable_python(value, fallback=_plain), ensure_ascii=False))


def print_convergence(done: Convergence, as_json: bool) -> None:
    """Print how far a write has come; exit code 1 if some live process had not confirmed it in time."""
    if as_json:
        print_json(done)
    else:
        typer.echo(
            f"version {done.version}: {done.acknowledged} of {done.workers} live processes show it "
            f"after {done.seconds * 1000:.0f} ms"
        )
        for name in done.lagging:
            typer.echo(f"  not yet: {shown(name)}", err=True)
    if not done.complete:
        raise typer.Exit(1)
