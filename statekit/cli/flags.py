"""``statekit flags``: list, set, enable, disable, explain, history, undo, delete, workers."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from statekit.cli._common import (
    AsJson,
    By,
    Namespace,
    Reason,
    Url,
    Wait,
    json_object,
    json_or_text,
    opened,
    print_columns,
    print_convergence,
    print_json,
    signature,
)
from statekit.errors import UnknownFlag, UsageError
from statekit.flags.core import Flag
from statekit.kit import StateKit

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="The flag.")]


@app.callback()
def flags() -> None:
    """List, set, explain and undo feature flags."""


@app.command("list")
def list_flags(url: Url = None, namespace: Namespace = "statekit", as_json: AsJson = False) -> None:
    """List all flags."""
    with opened(url, namespace) as kit:
        kit.flags.load()
        found = kit.flags.all()
        if as_json:
            print_json({name: flag.document() for name, flag in found.items()})
            return
        rows = [
            (name, "on" if one.enabled else "off", one.rollout, one.kind, one.owner)
            for name, one in found.items()
        ]
        print_columns(("FLAG", "STATE", "ROLLOUT %", "TYPE", "OWNER"), sorted(rows))


@app.command("set")
def set_flag(  # noqa: PLR0913, PLR0917 - the options of a command are the arguments of its function
    name: Name,
    rollout: Annotated[float | None, typer.Option(help="Percentage of actors it is on for.")] = None,
    default: Annotated[str | None, typer.Option(help="Its value, as JSON or text; or a variant.")] = None,
    variant: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, as often as needed.")] = None,
    owner: Annotated[str | None, typer.Option(help="Who answers for it.")] = None,
    document: Annotated[str | None, typer.Option(help="The whole flag as JSON instead.")] = None,
    by: By = None,
    reason: Reason = "",
    wait: Wait = 2.0,
    url: Url = None,
    namespace: Namespace = "statekit",
    as_json: AsJson = False,
) -> None:
    """Create a flag, or change what is given of it and leave the rest."""
    with opened(url, namespace) as kit:
        kit.flags.load()
        changes = {
            "rollout": rollout,
            "default": None if default is None else json_or_text(default),
            "variants": dict(map(_variant, variant)) if variant else None,
            "owner": owner,
        }
        known = kit.flags.get(name) or Flag()
        flag = Flag.of(json_object(document)) if document else known.replace(**_given(changes))
        print_convergence(kit.flags.set(name, flag, by=signature(by), reason=reason, wait=wait), as_json)


@app.command()
def enable(
    name: Name,
    by: By = None,
    reason: Reason = "",
    wait: Wait = 2.0,
    url: Url = None,
    namespace: Namespace = "statekit",
    as_json: AsJson = False,
) -> None:
    """Switch a flag on for those its rollout and rules say."""
    with opened(url, namespace) as kit:
        flag = _existing(kit, name).replace(enabled=True)
        print_convergence(kit.flags.set(name, flag, by=signature(by), reason=reason, wait=wait), as_json)


@app.command()
def disable(
    name: Name,
    by: By = None,
    reason: Reason = "",
    wait: Wait = 2.0,
    url: Url = None,
    namespace: Namespace = "statekit",
    as_json: AsJson = False,
) -> None:
    """Switch a flag off for everybody: the kill switch."""
    with opened(url, namespace) as kit:
        flag = _existing(kit, name).replace(enabled=False)
        print_convergence(kit.flags.set(name, flag, by=signature(by), reason=reason, wait=wait), as_json)


@app.command()
def delete(
    name: Name,
    by: By = None,
    reason: Reason = "",
    wait: Wait = 2.0,
    url: Url = None,
    namespace: Namespace = "statekit",
    as_json: AsJson = False,
) -> None:
    """Remove a flag: callers get their defaults. `undo` brings it back."""
    with opened(url, namespace) as kit:
        _existing(kit, name)
        print_convergence(kit.flags.delete(name, by=signature(by), reason=reason, wait=wait), as_json)


@app.command()
def explain(
    name: Name,
    attributes: Annotated[list[str] | None, typer.Argument(help="Attributes, such as plan=pro.")] = None,
    actor: Annotated[str | None, typer.Option(help="Who asks.")] = None,
    url: Url = None,
    namespace: Namespace = "statekit",
    as_json: AsJson = False,
) -> None:
    """Say what a flag answers an actor, and why. Exit code 1 if there is no such flag."""
    given = dict(map(_variant, attributes or ()))
    with opened(url, namespace) as kit:
        kit.flags.load()
        told = kit.flags.explain(name, actor=actor, **given)
    if as_json:
        print_json(told)
    else:
        rows = [
            (field, getattr(told, field))
            for field in ("value", "reason", "variant", "rule", "bucket", "version")
        ]
        print_columns(("FLAG", name), [*rows, ("error", told.error), ("did you mean", told.suggestion)])
    if name not in kit.flags.names():
        raise typer.Exit(1)


@app.command()
def history(
    name: Annotated[str | None, typer.Argument(help="One flag; all by default.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Writes to show.")] = 20,
    url: Url = None,
    namespace: Namespace = "statekit",
    as_json: AsJson = False,
) -> None:
    """Show who changed what, newest first."""
    with opened(url, namespace) as kit:
        found = kit.flags.history(name, limit)
    if as_json:
        print_json([_revision(one) for one in found])
        return
    rows = [(one.version, one.at, one.name, one.by, one.reason, _document(one.after)) for one in found]
    print_columns(("VERSION", "AT (UTC)", "FLAG", "BY", "REASON", "AFTER"), rows)


@app.command()
def undo(
    version: Annotated[int, typer.Argument(help="The write to take back; see history.")],
    by: By = None,
    reason: Reason = "",
    wait: Wait = 2.0,
    url: Url = None,
    namespace: Namespace = "statekit",
    as_json: AsJson = False,
) -> None:
    """Put the flag written in a version back to what it was before, as a new version."""
    with opened(url, namespace) as kit:
        kit.flags.load()
        print_convergence(kit.flags.undo(version, by=signature(by), reason=reason, wait=wait), as_json)


@app.command()
def workers(url: Url = None, namespace: Namespace = "statekit", as_json: AsJson = False) -> None:
    """List the live processes and the version of the flags each shows. Exit code 1 if one lags behind."""
    with opened(url, namespace) as kit:
        kit.flags.load()
        version = kit.flags.version
        found = [one for one in kit.flags.workers() if one.name != kit.store.worker]
    if as_json:
        print_json({"version": version, "workers": found})
    else:
        typer.echo(f"version {version}")
        print_columns(
            ("WORKER", "SHOWS", "SILENT FOR S"), [(one.name, one.version, one.silent) for one in found]
        )
    if any(one.version < version for one in found):
        raise typer.Exit(1)


def _existing(kit: StateKit, name: str) -> Flag:
    kit.flags.load()
    flag = kit.flags.get(name)
    if flag is None:
        near = kit.flags.explain(name).suggestion
        cure = f"did you mean {near!r}?" if near else "create it with `statekit flags set`"
        raise UnknownFlag(f"there is no flag {name!r}: {cure}")
    return flag


def _given(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if value is not None}


def _variant(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"{text!r}: write NAME=VALUE")
    return name, json_or_text(value)


def _document(flag: Flag | None) -> Any:
    return None if flag is None else flag.document()


def _revision(one: Any) -> dict[str, Any]:
    sides = {"before": _document(one.before), "after": _document(one.after)}
    return {
        "version": one.version,
        "at": one.at,
        "name": one.name,
        "by": one.by,
        "reason": one.reason,
    } | sides
