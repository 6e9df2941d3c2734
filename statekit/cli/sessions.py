"""``statekit sessions``: list and revoke the sessions of a principal; make a key to encrypt them with."""

from __future__ import annotations

from typing import Annotated

import typer

from statekit import Encryption
from statekit.cli._common import AsJson, Namespace, Url, opened, print_columns, print_json

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)

Principal = Annotated[str, typer.Argument(help='Who is signed in, as the app names it: "user:7".')]


@app.callback()
def sessions() -> None:
    """List and revoke the sessions of a principal."""


@app.command("new-key")
def new_key() -> None:
    """Print a new random key for kit.sessions(encryption=Encryption([...])). Keep it where passwords are kept."""
    typer.echo(Encryption.new_key())


@app.command("list")
def list_sessions(
    principal: Principal, url: Url = None, namespace: Namespace = "statekit", as_json: AsJson = False
) -> None:
    """List a principal's sessions by their public handles; credentials are never shown."""
    with opened(url, namespace) as kit:
        found = kit.sessions().sessions_of(principal)
    if as_json:
        # The idle deadline depends on the app's own settings, which are not known here.
        print_json(
            [
                {name: getattr(one, name) for name in ("handle", "created", "last_seen", "absolute_deadline")}
                for one in found
            ]
        )
        return
    rows = [(one.handle, one.created, one.last_seen, one.absolute_deadline) for one in found]
    print_columns(("HANDLE", "SIGNED IN (UTC)", "LAST SEEN", "ENDS AT THE LATEST"), rows)


@app.command()
def revoke(
    handle: Annotated[str, typer.Argument(help="The session's handle, from list.")],
    url: Url = None,
    namespace: Namespace = "statekit",
    as_json: AsJson = False,
) -> None:
    """End one session, now, in every process. Exit code 1 if there is no such session."""
    with opened(url, namespace) as kit:
        done = kit.sessions().revoke(handle)
    _tell({"handle": handle, "revoked": done}, "revoked" if done else "there is no such session", as_json)
    if not done:
        raise typer.Exit(1)


@app.command("revoke-all")
def revoke_all(
    principal: Principal, url: Url = None, namespace: Namespace = "statekit", as_json: AsJson = False
) -> None:
    """End all sessions of a principal."""
    with opened(url, namespace) as kit:
        count = kit.sessions().revoke_all(principal)
    _tell({"principal": principal, "revoked": count}, f"{count} revoked", as_json)


def _tell(facts: dict[str, object], text: str, as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        typer.echo(text)
