"""The command line: ``statekit COMMAND``. One file a command, imported only when that command is called.

To add a command: write ``statekit/cli/<name>.py`` holding ``app``, a `typer.Typer`, and add one line to
`COMMANDS`. Exit codes everywhere: 0 fine, 1 found something or failed, 2 bad usage.
"""

from __future__ import annotations

import atexit
import gc
import sys

__all__ = ["COMMANDS", "main"]

COMMANDS: dict[str, str] = {
    "audit": "Find the state a project keeps in its processes, and name what replaces it.",
    "demo": "The proof: a demo app under load, with state in memory, sticky, and shared.",
    "prove": "Your app as one process and as several pods, under one load: where the answers differ.",
    "dev": "Run the embedded server of this project and print its URL.",
    "flags": "List, set, explain and undo feature flags.",
    "tenants": "Read, set, explain and undo tenant configuration.",
    "sessions": "List and revoke the sessions of a principal.",
    "limits": "Look at or reset what a rate limit has counted.",
    "pools": "Show every process's share of a connection budget.",
    "top": "Watch the fleet: workers, flag version, pools.",
}
"""Name and one line of help; the module of that name is imported when the command runs."""


def main() -> None:
    """Run the command line; the entry point of the ``statekit`` script."""
    try:
        from statekit.cli._tree import tree  # noqa: PLC0415 - typer is an extra, its absence gets a cure
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in {"typer", "rich", "click"}:
            raise
        sys.stderr.write(f"statekit: {missing.name} is not installed; run: pip install 'statekit[cli]'\n")
        sys.exit(2)
    if sys.argv[1:2] == ["audit"]:
        _keep_everything()
    tree()()


def _keep_everything() -> None:
    """What an audit makes goes with its process: to look for circles in it, now or at the end, takes a second."""
    gc.disable()
    atexit.register(gc.freeze)
