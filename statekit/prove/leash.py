"""Runs a command that ends when the process that started it ends, even if that one is killed outright.

``python leash.py PARENT_PID COMMAND…``: asks the kernel for a SIGTERM at the parent's death, then becomes the
command. Linux only; elsewhere the command runs without a leash, and is ended by `statekit.prove.children` alone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Tie this process to its parent and become the command."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the tie was made
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - becoming the command is the point


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
