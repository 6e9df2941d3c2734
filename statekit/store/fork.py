"""Forks: what a process must drop when it finds itself to be a child.

Threads do not survive a fork, and a socket shared by two processes mixes their replies. Whoever holds either
registers itself here and gets ``after_fork()`` in the child, before the child runs anything else (gunicorn
``--preload``, uWSGI, multiprocessing, Celery prefork).

Rule: ``after_fork`` only drops; threads start in ``restart_after_fork``, when everything has been dropped. A thread
        that starts earlier finds a lock that nobody in this process will ever open, or the parent's socket.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["on_fork"]


class Forkable(Protocol):
    """Whoever has threads has ``restart_after_fork()`` too."""

    def after_fork(self) -> None: ...


_forkables: weakref.WeakSet[Forkable] = weakref.WeakSet()


def on_fork(forkable: Forkable) -> None:
    """Call ``forkable.after_fork()`` in every child forked from now on, as long as the object lives."""
    _forkables.add(forkable)


def _after_fork_in_child() -> None:
    known = list(_forkables)
    for forkable in known:
        forkable.after_fork()
    for forkable in known:
        getattr(forkable, "restart_after_fork", _nothing)()


def _nothing() -> None:
    """What a forkable without threads restarts."""


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
