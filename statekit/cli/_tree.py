"""The tree of commands, each branch imported at its first use: ``statekit dev`` never pays for the demo."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from statekit.cli import COMMANDS
from statekit.errors import StatekitError, UsageError

__all__ = ["tree"]


def _installed(name: str) -> bool:
    return find_spec(f"statekit.cli.{name}") is not None


class _Lazy(TyperGroup):
    """A group that knows its commands by name and imports one when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is click's
        return [name for name in COMMANDS if _installed(name)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = typer.main.get_command(import_module(f"statekit.cli.{cmd_name}").app)
        command.name, command.short_help = cmd_name, COMMANDS[cmd_name]
        return command

    def invoke(self, ctx: Any) -> Any:
        """Say what went wrong in one line: a traceback tells an operator nothing an error's text does not."""
        try:
            return super().invoke(ctx)
        except StatekitError as error:
            sys.stderr.write(f"statekit: {error}\n")
            wrong_use = isinstance(error, UsageError) and not isinstance(
                error, LookupError
            )  # not there: a finding
            raise typer.Exit(2 if wrong_use else 1) from error


def tree() -> Any:
    """Build the command ``statekit``."""
    app = typer.Typer(cls=_Lazy, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
    app.callback()(statekit)
    return typer.main.get_command(app)


def _version(wanted: bool) -> None:
    if wanted:
        from statekit import __version__  # noqa: PLC0415 - asked for once in a blue moon

        typer.echo(f"statekit {__version__}")
        raise typer.Exit


def statekit(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Make Python web apps stateless: find the state, share it, prove under load that it holds."""
    del version  # its callback has already answered
