"""One process that hits a leased limiter as fast as it can, and notes when each hit it was allowed was decided.

    python lease_process.py URL NAMESPACE LIMIT SECONDS FILE

FILE receives pairs of nanoseconds of the monotonic clock, before and after each allowed hit; it is mapped into
memory, so what was noted survives a kill. A last line of JSON says how many hits there were.
"""

from __future__ import annotations

import json
import mmap
import sys
from pathlib import Path
from time import monotonic_ns

from statekit import StateKit
from statekit.store import Budget

MOST = 2_000_000


def main() -> None:
    url, namespace, limit, seconds, path = sys.argv[1:]
    kit = StateKit.connect(url, namespace, budget=Budget(decision=60, operation=60, connect=60))
    limiter = kit.rate_limiter("bulk", limit, lease=True, on_outage="deny")
    with Path(path).open("r+b") as file:
        file.truncate(16 * MOST)
        noted = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")
    kit.ping()
    print("ready", flush=True)
    sys.stdin.readline()
    end = monotonic_ns() + int(float(seconds) * 1e9)
    at = hits = local = 0
    while (before := monotonic_ns()) < end:
        decision = limiter.hit("hot")
        hits += 1
        local += decision.local
        if decision.allowed:
            noted[at], noted[at + 1] = before, monotonic_ns()
            at += 2
    kit.close()
    print(json.dumps({"hits": hits, "allowed": at // 2, "local": local}))


if __name__ == "__main__":
    main()
