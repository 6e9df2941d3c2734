"""Run by tests.unit.test_fork: greenlets wait for replies while the process forks; each must get its own, in the parent."""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402 - after the patch, which is the point
import sys  # noqa: E402
import threading  # noqa: E402

from statekit import StateKit  # noqa: E402
from statekit.store.op import command  # noqa: E402
from statekit.store.outage import Budget  # noqa: E402

WAITING = 8


def echoes(kit: StateKit, name: str) -> None:
    for number in range(50):
        mine = f"{name}-{number}".encode()
        assert kit.store.run(command("ECHO", mine)) == mine


def main(url: str, namespace: str) -> int:
    kit = StateKit.connect(
        url, namespace, budget=Budget(decision=20, operation=20, connect=20), snapshot_dir=None
    )
    queues = [kit.store.keys.of("n", f"{number}") for number in range(WAITING)]
    heard: dict[str, object] = {}

    def wait(queue: str) -> None:
        heard[queue] = kit.store.run(command("BLPOP", queue, 10))

    threads = [threading.Thread(target=wait, args=(queue,)) for queue in queues]
    for thread in threads:
        thread.start()
    while (
        kit.store.run(command("INFO", "clients")).split(b"blocked_clients:")[1][:2].strip() != b"%d" % WAITING
    ):
        pass
    if not (pid := os.fork()):
        status = 1
        try:
            for queue in queues:
                kit.store.run(command("RPUSH", queue, queue))
            echoes(kit, "child")
            status = 0
        finally:
            os._exit(status)
    for thread in threads:
        thread.join()
    echoes(kit, "parent")
    assert heard == {queue: [queue.encode()] * 2 for queue in queues}, heard
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
