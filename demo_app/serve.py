"""Just the pods, for a look by hand or a load of one's own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from demo_app.pods import Fleet, Plan
from demo_app.settings import State
from statekit import Embedded, StatekitError
from statekit.prove.children import ChildFailed, Children, interruptible

__all__ = ["serve", "store_for"]


@contextlib.contextmanager
def store_for(state: State) -> Iterator[str]:
    """The URL of the shared store: ``$STATEKIT_URL``, else a server of our own that ends with the block."""
    given = os.environ.get("STATEKIT_URL", "")
    if state != State.SHARED or given:
        yield given
        return
    with Embedded(ephemeral=True) as url:
        yield url


def serve(state: str, pods: int, workers: int, port: int) -> int:
    """Run pods until told to stop; returns the exit code."""
    if state not in list(State):
        sys.stderr.write(f"statekit: --state {state!r} is unknown: use {', '.join(State)}\n")
        return 2
    interruptible()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="statekit-") as name,
            store_for(State(state)) as url,
        ):
            _run(Plan(State(state), pods, workers, port, store=url), Path(name))
    except KeyboardInterrupt:
        return 0
    except (ChildFailed, StatekitError, OSError) as error:
        sys.stderr.write(f"statekit: {error}\n")
        return 1
    return 0


def _run(plan: Plan, folder: Path) -> None:
    with Children(folder) as children:
        fleet = Fleet(plan, children)
        fleet.start()
        sys.stdout.write(json.dumps({"pods": fleet.urls, "upstream": fleet.third_party}) + "\n")
        sys.stdout.flush()
        while True:
            signal.pause()
