"""Under which conditions figures were taken: without them they mean nothing."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis

__all__ = ["conditions"]

ROOT = Path(__file__).parents[2]


def conditions(url: str, *, quick: bool) -> dict[str, Any]:
    """The server, the machine, the versions of all peers."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "server": _server(url),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "packages": _packages(),
        "commit": _commit(),
        "load_before": os.getloadavg()[0],
        "method": "every case in a process of its own; contenders interleaved in batches of 20 ms (5 ms if quick),"
        " in an order drawn anew each round; ratios are medians of the rounds' paired ratios; cycle collector off in"
        " batches, run between them",
    }


def _server(url: str) -> dict[str, str]:
    with redis.Redis.from_url(url) as client:
        info = client.info("server")
    valkey = info.get("valkey_version")
    name = "Valkey" if valkey else "Redis"
    transport = "a unix socket" if urlsplit(url).scheme == "unix" else "TCP"
    return {"name": name, "version": valkey or info["redis_version"], "transport": transport}


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _packages() -> dict[str, str]:
    """The version of everything the extra named ``bench`` asks for, and of what statekit itself stands on."""
    names = {"redis", "pydantic", "hiredis", "coredis", "Flask", "fastapi", "statekit"}
    for requirement in metadata.requires("statekit") or ():
        if "extra == 'bench'" in requirement.replace('"', "'"):
            names.add(re.match(r"[\w.-]+", requirement)[0])  # type: ignore[index]
    return {name: version for name in sorted(names, key=str.lower) if (version := _version(name))}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _commit() -> str:
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=9"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
