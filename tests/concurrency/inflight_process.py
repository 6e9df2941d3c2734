"""One process of many, for test_inflight.py. The job is JSON in the first argument.

``{"url", "namespace", "limit", "lease", "threads", "port"}``: threads take slots, each connects to the port while it
has one, until stdin closes; then prints how many blocks each ran.

Without ``port``: takes as many slots as there are threads, prints their fences, and stays. When the first is lost it
prints what it then gets for releasing it, and ends.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from typing import Any

from statekit.kit import StateKit
from statekit.store import Budget


def work(kit: StateKit, job: dict[str, Any], done: threading.Event, counts: list[int]) -> None:
    """Be counted by a third party while holding a slot."""
    blocks = 0
    while not done.is_set():
        with kit.in_flight("reports", job["limit"], lease=job["lease"]).hold("acme", timeout=60) as hold:
            assert not hold.degraded
            with socket.create_connection(("127.0.0.1", job["port"])) as connection:
                connection.sendall(b"?")
                assert connection.recv(1) == b"!"
                time.sleep(0.002)
        blocks += 1
    counts.append(blocks)


def stay(kit: StateKit, job: dict[str, Any]) -> None:
    flight = kit.in_flight("reports", job["limit"], lease=job["lease"])
    holds = [flight.acquire("acme") for _ in range(job["threads"])]
    print(json.dumps([hold.fence for hold in holds]), flush=True)
    while not holds[0].lost:
        time.sleep(0.01)
    print(json.dumps({"released": holds[0].release(), "lost": holds[0].lost}), flush=True)


def main(job: dict[str, Any]) -> None:
    budget = Budget(decision=60, operation=60, connect=60)
    kit = StateKit.connect(job["url"], job["namespace"], budget=budget)
    if "port" not in job:
        stay(kit, job)
        return
    done, counts = threading.Event(), []
    threads = [threading.Thread(target=work, args=(kit, job, done, counts)) for _ in range(job["threads"])]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    done.set()
    for thread in threads:
        thread.join()
    kit.close()
    print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
