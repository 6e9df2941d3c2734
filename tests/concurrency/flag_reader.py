"""A process that follows the flags; says what it sees when asked, a line in for a line out."""

import json
import sys

from statekit.kit import StateKit
from statekit.replica import core


def main(url: str, namespace: str, reconcile: str) -> None:
    core.RECONCILE = float(reconcile)
    kit = StateKit.connect(url, namespace, snapshot_dir=None)
    with kit:
        for asked in sys.stdin:
            name = asked.strip()
            flags = kit.flags
            on = flags.enabled(name)
            print(json.dumps({"on": on, "version": flags.version, "stale": flags.stale}), flush=True)


main(*sys.argv[1:])
