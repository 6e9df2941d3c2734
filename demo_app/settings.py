"""What a pod takes from its environment. Everything an operator can set stands here, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Self

__all__ = ["Settings", "State", "names"]


class State(StrEnum):
    """Where a pod keeps what it must remember between two requests."""

    MEMORY = "memory"
    STICKY = "sticky"
    SHARED = "shared"


def _setting(name: str, default: str) -> str:
    return field(default=default, metadata={"name": name})


@dataclass(frozen=True, slots=True)
class Settings:
    """One pod's settings; `from_environment` reads them, `environment` writes them for a child process."""

    state: str = _setting("STATE", State.SHARED)
    """``shared``, or one of the two "before" pictures: ``memory`` and ``sticky``."""
    store: str = _setting("STATEKIT_URL", "")
    """Where the shared store is; empty: the embedded server of this project."""
    namespace: str = _setting("STATEKIT_NAMESPACE", "demo")
    """What keeps this app's keys apart from others' on the same server."""
    pod: str = _setting("POD", "pod-1")
    """The pod's name, carried by every answer."""
    bind: str = _setting("BIND", "127.0.0.1:8000")
    """Host and port the pod listens on."""
    workers: str = _setting("WORKERS", "2")
    """Processes of the pod."""
    threads: str = _setting("THREADS", "16")
    """Threads of each process."""
    preload: str = _setting("PRELOAD", "1")
    """``1``: import the app once and fork; ``0``: import it in every worker."""
    upstream: str = _setting("UPSTREAM_URL", "http://127.0.0.1:8900")
    """The third party the pod calls through its connection pool."""
    peers: str = _setting("PEERS", "")
    """Addresses of all pods, with commas, as a browser reaches them: the live page then asks each in turn. Empty
    behind a balancer."""
    drain_file: str = _setting("DRAIN_FILE", "")
    """While this file exists the pod says that it is not ready, so that a balancer sends nothing more."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the settings; a state nobody knows is refused by name."""
        given = {
            one.name: environment[one.metadata["name"]]
            for one in fields(cls)
            if environment.get(one.metadata["name"])
        }
        settings = cls(**given)
        if settings.state not in list(State):
            raise ValueError(f"STATE={settings.state!r} is unknown: use {', '.join(State)}")
        return settings

    def environment(self) -> dict[str, str]:
        """The variables that make `from_environment` return these settings."""
        return {one.metadata["name"]: getattr(self, one.name) for one in fields(self)}


def names() -> set[str]:
    """The environment variables the demo reads."""
    return {one.metadata["name"] for one in fields(Settings)}
