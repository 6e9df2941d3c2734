"""Results as text: for the terminal, and as tables for the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["allowed", "amount", "documented", "figure", "lines", "measured", "promised", "tables", "totals"]

SCALES = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))


def amount(value: float, unit: str) -> str:
    """A value for readers: three digits, and a unit of fitting size."""
    if unit == "s":
        name, scale = next((row for row in SCALES if abs(value) >= row[1]), SCALES[-1])
        return f"{_digits(value / scale)} {name}"
    return f"{_digits(value)} {unit}"


def _digits(value: float) -> str:
    if value == round(value) or abs(value) >= 1000:
        return f"{round(value):,}"
    return f"{value:.3g}"


def figure(one: dict[str, Any], unit: str) -> str:
    """What a contender took, and its median call where calls were timed one by one."""
    whole = amount(one["median"], unit)
    return f"{whole} (p50 {amount(one['p50'], unit)})" if "p50" in one else whole


def promised(promise: dict[str, Any], unit: str) -> str:
    """A promise and what became of it, in a line."""
    return f"{promise['who']}: {allowed(promise, unit)}: {measured(promise, unit)}"


def allowed(promise: dict[str, Any], unit: str) -> str:
    """What was promised."""
    return str(
        promise["text"] if promise["of"] else f"{promise['direction']} {amount(promise['bound'], unit)}"
    )


def measured(promise: dict[str, Any], unit: str) -> str:
    """What became of it, with the quartiles."""
    if promise["measured"] is None:
        return str(promise["why"])
    if promise["of"] is None:
        return amount(promise["measured"], unit)
    middle, q1, q3 = (_digits(promise[key]) for key in ("measured", "q1", "q3"))
    return f"{middle}x" if q1 == q3 else f"{middle}x ({q1} to {q3})"


MARKS = {True: "kept", False: "MISSED", None: "void"}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """A case for the terminal."""
    for part in result["results"]:
        yield f"  {part['label']}"
        for one in part["series"]:
            yield f"    {one['name']:<44} {_value(one, part['unit'])}"
        for promise in part["promises"]:
            yield f"    {MARKS[promise['kept']]:>6}: {promised(promise, part['unit'])}"
        yield from (f"     found: {finding}" for finding in _findings(part))


def _findings(part: dict[str, Any]) -> list[str]:
    """What the checks found wrong with contenders that were measured all the same."""
    unmeasured = {one["name"] for one in part["series"] if "failed" in one}
    wrong = [check for check in part["checks"] if not check["passed"] and check["who"] not in unmeasured]
    return [f'{check["who"]} does not hold "{check["what"]}": {check["detail"]}' for check in wrong]


def _value(one: dict[str, Any], unit: str) -> str:
    if one["role"] == "absent":
        return f"left out: {one['why']}"
    if "failed" in one:
        return f"no figure: {one['failed']}"
    p50 = f"   p50 {amount(one['p50'], unit)}, p99 {amount(one['p99'], unit)}" if "p50" in one else ""
    return f"{amount(one['median'], unit):>12}{p50}"


# -- for the documentation -------------------------------------------------------------------------------

PLACE = re.compile(r"(<!-- bench: (\S+) -->\n).*?(<!-- end of bench -->)", re.DOTALL)


def documented(page: str, report: dict[str, Any]) -> str:
    """Fill every ``<!-- bench: case -->`` … ``<!-- end of bench -->`` of a page with that case's tables.

    ``promises`` is the table of all promises, ``conditions`` what they were measured under.
    """
    results = {result["name"]: result for result in report["results"]}
    whole = {"conditions": _conditions(report["conditions"]), "promises": _promises(report["results"])}

    def filled(place: re.Match[str]) -> str:
        if place[2] in whole:
            return place[1] + "\n".join(whole[place[2]]) + "\n" + place[3]
        result = results.get(place[2])
        return place[0] if result is None else place[1] + "\n".join(tables(result)) + "\n" + place[3]

    return PLACE.sub(filled, page)


def tables(result: dict[str, Any]) -> Iterator[str]:
    """A case as Markdown."""
    if "error" in result or "skipped" in result:
        yield result.get("skipped") or "It failed: " + result["error"].strip().splitlines()[-1]
    for part in result["results"]:
        yield from _table(part)


def _table(part: dict[str, Any]) -> Iterator[str]:
    yield from (f"**{part['label']}**", "", "| | figure | quartiles |", "|---|---|---|")
    for one in part["series"]:
        name = {"floor": f"*{one['name']}* (floor)", "statekit": f"**{one['name']}**"}.get(
            one["role"], one["name"]
        )
        yield f"| {name} | {_cells(one, part['unit'])} |"
    yield ""
    for promise in part["promises"]:
        yield f"- {MARKS[promise['kept']]}: {promised(promise, part['unit'])}"
    yield from (f"- found: {finding}" for finding in _findings(part))
    yield ""


def _cells(one: dict[str, Any], unit: str) -> str:
    if one["role"] == "absent" or "failed" in one:
        return f"{_value(one, unit)} | "
    whole = figure(one, unit)
    return (
        f"{whole} | {amount(one['q1'], unit)} to {amount(one['q3'], unit)}"
        if one["q1"] != one["q3"]
        else f"{whole} | "
    )


def _promises(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield from ("![Every promise, and by how much it was kept](images/bench.png)", "")
    yield from ("| case | who | promised | measured | |", "|---|---|---|---|---|")
    for result in results:
        for part in result["results"]:
            for one in part["promises"]:
                told = allowed(one, part["unit"]), measured(one, part["unit"])
                yield f"| {result['name']} | {one['who']}, {part['label']} | {' | '.join(told)} | {MARKS[one['kept']]} |"


def _conditions(conditions: dict[str, Any]) -> Iterator[str]:
    server = conditions["server"]
    yield f"{server['name']} {server['version']} over {server['transport']} · {conditions['cpu']}, {conditions['cores']} cores"
    yield f" · Python {conditions['python']} · {conditions['date']} · commit `{conditions['commit']}`."
    yield "Packages: " + _packages(conditions["packages"])


def _packages(packages: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items()) + "."


def totals(results: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many promises were kept, missed, and could not be judged."""
    every = [p["kept"] for result in results for part in result["results"] for p in part["promises"]]
    return {"kept": every.count(True), "missed": every.count(False), "void": every.count(None)}
