"""``python -m benchmarks``: statekit beside its peers, on one server, in one run.

    python -m benchmarks                      all cases; writes report/bench.json, bench.html, bench.png
    python -m benchmarks --only 'flags/*'     some of them (may be given several times)
    python -m benchmarks --quick              fewer and shorter rounds: about two minutes
    python -m benchmarks --list               what there is
    python -m benchmarks --docs               fill the tables of docs/performance.md from report/bench.json

Exit code 0 if every case ran, also where a promise was missed; with --strict a missed promise is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path
from time import perf_counter
from typing import Any

import benchmarks.suites  # noqa: F401 - registers the cases
from benchmarks.bench.model import CASES, Case
from benchmarks.bench.run import ran, ran_apart
from benchmarks.bench.text import documented, totals

PERFORMANCE = Path(__file__).parents[1] / "docs" / "performance.md"


def asked(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="statekit beside its peers")
    parser.add_argument(
        "--only", action="append", metavar="GLOB", help="cases whose name fits, such as 'flags/*'"
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--list", action="store_true", help="name the cases and end")
    parser.add_argument(
        "--out", type=Path, default=Path("report"), metavar="DIR", help="where the report goes"
    )
    parser.add_argument("--url", help="a server of your own; it is written to, in namespaces named bench-…")
    parser.add_argument("--strict", action="store_true", help="a missed promise is exit code 1")
    parser.add_argument("--docs", action="store_true", help="fill docs/performance.md from DIR/bench.json")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def main() -> int:
    options = asked()
    if options.one:
        return one(options)
    if options.docs:
        return docs(options.out)
    chosen = [case for name, case in CASES.items() if fits(name, options.only)]
    if options.list or not chosen:
        print(*(f"{case.name:<36} {case.question}" for case in chosen), sep="\n")
        return 0 if chosen else 2
    report = whole(chosen, options)
    return verdict(report, strict=options.strict)


def fits(name: str, globs: list[str] | None) -> bool:
    """Whether a case is wanted."""
    return not globs or any(fnmatchcase(name, glob) or name.startswith(f"{glob}/") for glob in globs)


def one(options: argparse.Namespace) -> int:
    """Run a single case here; this is what each process of a whole run does."""
    result = ran(CASES[options.one], options.url, quick=options.quick)
    options.json.write_text(json.dumps(result), encoding="utf-8")
    return 0


def whole(chosen: list[Case], options: argparse.Namespace) -> dict[str, Any]:
    """Run the cases against one server and write the report."""
    from benchmarks.bench.conditions import conditions
    from benchmarks.bench.page import written

    start = perf_counter()
    with ExitStack() as stack:
        url = options.url or stack.enter_context(embedded())
        told = conditions(url, quick=options.quick)
        results = ran_apart(chosen, url, quick=options.quick, tell=lambda text: print(text, flush=True))
    told |= {"load_after": os.getloadavg()[0], "seconds": round(perf_counter() - start)}
    report = {"version": 1, "conditions": told, "results": results, "promises": totals(results)}
    print(*(f"wrote {path}" for path in written(report, options.out)), sep="\n")
    return report


def embedded() -> Any:
    """A private server, gone afterwards."""
    from statekit import Embedded

    return Embedded(ephemeral=True)


def verdict(report: dict[str, Any], *, strict: bool) -> int:
    counted, broken = (
        report["promises"],
        [result["name"] for result in report["results"] if "error" in result],
    )
    print(f"promises: {counted['kept']} kept, {counted['missed']} missed, {counted['void']} void")
    print(*(f"failed: {name}" for name in broken), sep="\n", end="\n" if broken else "")
    return int(bool(broken) or (strict and counted["missed"] > 0))


def docs(folder: Path) -> int:
    report = json.loads((folder / "bench.json").read_text(encoding="utf-8"))
    for picture in (folder / "bench.png", folder / "peers.png"):
        if picture.exists():
            shutil.copy(picture, PERFORMANCE.parent / "images" / picture.name)
    PERFORMANCE.write_text(documented(PERFORMANCE.read_text(encoding="utf-8"), report), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
