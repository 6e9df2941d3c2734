"""``statekit tenants``: list, get, set, explain, history, undo, delete."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ConfigDict

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
from statekit.errors import UsageError
from statekit.tenants.faces import Tenants
from statekit.tenants.settings import TenantSettings

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)

Tenant = Annotated[str, typer.Argument(help="The tenant's id.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--settings",
        envvar="STATEKIT_SETTINGS",
        help="The app's settings class, such as app.config:Settings; without it only overrides are known.",
    ),
]
Registry = Annotated[str, typer.Option("--registry", help="The registry's name, if the app gave it one.")]


class Anything(TenantSettings):
    """Stands in for the app's settings class where that is not given: whatever is stored, nothing more."""

    model_config = ConfigDict(extra="allow")


@app.callback()
def tenants() -> None:
    """Read, set, explain and undo tenant configuration."""


@app.command("list")
def list_tenants(
    registry: Registry = "tenants",
    url: Url = None,
    namespace: Namespace = "statekit",
    as_json: AsJson = False,
) -> None:
    """List the tenants that have overrides, and the version of their document."""
    with _opened(url, namespace, None, registry) as found:
        rows = [(tenant, found.version_of(tenant)) for tenant in found.known()]
    if as_json:
        print_json([{"tenant": tenant, "version": version} for tenant, version in rows])
    else:
        print_columns(("TENANT", "VERSION"), rows)


@app.command()
def get(
    tenant: Tenant,
    path: Annotated[str | None, typer.Argument(help='One setting, such as "limits.rps".')] = None,
    settings: Model = None,
    registry: Registry = "tenants",
    url: Url = None,
    namespace: Namespace = "statekit",
    as_json: AsJson = False,
) -> None:
    """Print a tenant's settings: all in force with --settings, else those that were overridden."""
    del as_json  # settings are printed as JSON either way
    with _opened(url, namespace, settings, registry) as found:
        told = found.explain(tenant, path).value if path else found.get(tenant).model_dump(mode="json")
    print_json(told)


@app.command("set")
def set_tenant(  # noqa: PLR0913, PLR0917 - the options of a command are the arguments of its function
    tenant: Tenant,
    changes: Annotated[list[str], typer.Argument(help="PATH=VALUE, or one JSON merge patch; null removes.")],
    settings: Model = None,
    unchecked: Annotated[bool, typer.Option("--unchecked", help="Write without a settings class.")] = False,
    if_version: Annotated[int | None, typer.Option(help="Only if the document has this version.")] = None,
    by: By = None,
    reason: Reason = "",
    wait: Wait = 2.0,
    registry: Registry = "tenants",
    url: Url = None,
    namespace: Namespace = "statekit",
    as_json: AsJson = False,
) -> None:
    """Change settings of a tenant. Validated first, which needs --settings, or say --unchecked."""
    if settings is None and not unchecked:
        raise UsageError(
            "nothing can be validated without --settings module:Class; --unchecked writes anyway"
        )
    with _opened(url, namespace, settings, registry) as found:
        done = found.update(
            tenant,
            _patch(changes),
            if_version=if_version,
            by=signature(by),
            reason=reason,
            wait=wait,
        )
    print_convergence(done, as_json)


@app.command()
def explain(
    tenant: Tenant,
    path: Annotated[str, typer.Argument(help='The setting, such as "limits.rps".')],
    settings: Model = None,
    registry: Registry = "tenants",
    url: Url = None,
    namespace: Namespace = "statekit",
    as_json: AsJson = False,
) -> None:
    """Say why a setting has the value it has: the layer, who set it, when and why."""
    with _opened(url, namespace, settings, registry) as found:
        told = found.explain(tenant, path)
    if as_json:
        print_json(told)
    else:
        names = ("value", "layer", "version", "by", "at", "reason", "stale")
        print_columns((path, tenant), [(name, getattr(told, name)) for name in names])


@app.command()
def history(
    tenant: Tenant,
    limit: Annotated[int, typer.Option(min=1, help="Writes to show.")] = 20,
    registry: Registry = "tenants",
    url: Url = None,
    namespace: Namespace = "statekit",
    as_json: AsJson = False,
) -> None:
    """Show who changed what of a tenant, newest first."""
    with _opened(url, namespace, None, registry) as found:
        told = found.history(tenant, limit)
    if as_json:
        print_json(told)
    else:
        rows = [(one.version, one.at, one.by, one.reason, one.after) for one in told]
        print_columns(("VERSION", "AT (UTC)", "BY", "REASON", "OVERRIDES AFTER"), rows)


@app.command()
def undo(  # noqa: PLR0913, PLR0917 - as above
    tenant: Tenant,
    version: Annotated[
        int | None, typer.Argument(help="The write to take back; the latest by default.")
    ] = None,
    settings: Model = None,
    by: By = None,
    reason: Reason = "",
    wait: Wait = 2.0,
    registry: Registry = "tenants",
    url: Url = None,
    namespace: Namespace = "statekit",
    as_json: AsJson = False,
) -> None:
    """Take back what one write changed, keeping what was written since."""
    with _opened(url, namespace, settings, registry) as found:
        done = found.undo(tenant, version, by=signature(by), reason=reason, wait=wait)
    print_convergence(done, as_json)


@app.command()
def delete(
    tenant: Tenant,
    by: By = None,
    reason: Reason = "",
    wait: Wait = 2.0,
    registry: Registry = "tenants",
    url: Url = None,
    namespace: Namespace = "statekit",
    as_json: AsJson = False,
) -> None:
    """Take all overrides of a tenant away; `undo` brings them back."""
    with _opened(url, namespace, None, registry) as found:
        done = found.delete(tenant, by=signature(by), reason=reason, wait=wait)
    print_convergence(done, as_json)


@contextmanager
def _opened(url: str | None, namespace: str, settings: str | None, registry: str) -> Iterator[Tenants[Any]]:
    model = _model(settings) if settings else Anything
    with opened(url, namespace) as kit:
        found = kit.tenants(model, name=registry)
        found.load()
        yield found


def _model(named: str) -> type[TenantSettings]:
    """Import ``module:Class``, also from the current directory."""
    module, _, name = named.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        model = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"--settings {named!r}: {error}; write module:Class") from error
    if not (isinstance(model, type) and issubclass(model, TenantSettings)):
        raise UsageError(f"--settings {named!r} is no TenantSettings class")
    return model


def _patch(changes: list[str]) -> dict[str, Any]:
    """Read ``limits.rps=5 plan=pro``, or one JSON object, as a merge patch."""
    if len(changes) == 1 and changes[0].lstrip().startswith("{"):
        return json_object(changes[0])
    patch: dict[str, Any] = {}
    for change in changes:
        path, equals, value = change.partition("=")
        *parents, last = path.split(".")
        if not equals or not last:
            raise UsageError(f"{change!r}: write PATH=VALUE, such as limits.rps=50")
        inner = patch
        for name in parents:
            inner = inner.setdefault(name, {})
        inner[last] = json_or_text(value)
    return patch
