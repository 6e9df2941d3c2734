"""Many processes and threads on one key: exactly the limit is admitted."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.servers import at_length

PROCESSES, THREADS, LIMIT = 8, 25, 100
PROGRAM = """
import json, sys, threading
from statekit import StateKit
from statekit.store import Budget

url, namespace, threads = sys.argv[1:3] + [int(sys.argv[3])]
kit = StateKit.connect(url, namespace, budget=Budget(decision=60, operation=60, connect=60))
limits = "100/day", "5000/52 weeks"
algorithms = "sliding-log", "gcra", "fixed-window"
limiters = [kit.rate_limiter("hot", *limits, algorithm=one, on_outage="deny") for one in algorithms]
decisions = {limiter: [] for limiter in limiters}
print("ready", flush=True)
sys.stdin.readline()
start = threading.Barrier(threads)


def work():
    start.wait()
    for limiter in limiters * 2:
        decisions[limiter].append(limiter.hit("key"))


workers = [threading.Thread(target=work) for _ in range(threads)]
for one in workers:
    one.start()
for one in workers:
    one.join()
kit.close()
print(json.dumps([sum(d.allowed and not d.degraded for d in decisions[one]) for one in limiters]))
"""


@at_length
def test_exactly_the_limit_is_admitted(server_url, namespace):
    """By each algorithm that promises it: 400 hits at once, 100 admitted."""
    command = [sys.executable, "-c", PROGRAM, server_url, namespace, str(THREADS)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    answers = [process.communicate(timeout=90)[0] for process in _started(processes)]
    admitted = [json.loads(answer) for answer in answers]
    assert [sum(counts) for counts in zip(*admitted, strict=True)] == [LIMIT] * 3


def _started(processes):
    """Let all go before the first is waited for."""
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    return processes
