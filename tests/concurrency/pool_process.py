"""One process of a fleet, for test_pools.py: threads that borrow connections to a stub until stdin closes.

    python pool_process.py '{"url": …, "namespace": …, "port": …, "threads": 4, "hold": 0.002, "bounds": {…}}'

Prints "ready" once registered, and a line of JSON with its statistics at the end.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from typing import Any

from statekit.kit import StateKit


def borrow(kit: StateKit, hold: float, done: threading.Event, counts: list[int]) -> None:
    while not done.is_set():
        with kit.pools.checkout("billing", timeout=60) as connection:
            connection.sendall(b"?")
            assert connection.recv(1) == b"!"
            time.sleep(hold)
        counts.append(1)


def main(job: dict[str, Any]) -> None:
    kit = StateKit.connect(job["url"], job["namespace"])
    kit.pools.register(
        "billing", open=lambda: socket.create_connection(("127.0.0.1", job["port"])), **job["bounds"]
    )
    print("ready", flush=True)
    done, counts = threading.Event(), []
    threads = [
        threading.Thread(target=borrow, args=(kit, job["hold"], done, counts)) for _ in range(job["threads"])
    ]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    done.set()
    for thread in threads:
        thread.join()
    stats = kit.pools.stats()["billing"]
    print(json.dumps({"calls": len(counts), "opened": stats.opened_total, "share": stats.share}), flush=True)
    kit.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
