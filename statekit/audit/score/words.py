"""The score in words: a table and its figures, for a terminal and for a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap

from statekit.audit.score.model import Candidate, Factor, Hold, Score, SharedState

__all__ = [
    "FORMULA",
    "NOTHING",
    "counted",
    "factors_of",
    "held_back_by",
    "inputs_of",
    "listed",
    "markdown",
    "printable",
    "short_names",
    "text",
]

NOTHING = "Nothing to score: no package serves requests or holds state."
FORMULA = "score = domain clarity x async viability / shared state coupling"
LEGEND = "clarity and viability run from 1 to 10, coupling from 1; the score from 0 to 100"
ROWS = 25
EXPLAINED = 5
"""Candidates whose factors are shown with their inputs."""
DEAREST = 4
"""Shared states listed for one candidate."""
WIDE = 100


def text(score: Score) -> str:
    """The table, and the inputs of the first few and the last; plain text, 100 columns."""
    if not score.candidates:
        return f"{NOTHING}\n"
    short = short_names(score)
    lines = ["What to move first", FORMULA, "", *map(_clipped, _table(score, short)), ""]
    for one in _explained(score.candidates):
        lines += [*_explanation(one, score, short), ""]
    for line in (*_footnotes(score), LEGEND):
        lines += wrap(_clean(line), WIDE, subsequent_indent="  ")
    return "\n".join(lines) + "\n"


def short_names(score: Score) -> dict[str, str]:
    """States by the shortest end of their name that is theirs alone, two names at least."""
    names = sorted({one.name for one in score.states})
    ends: dict[str, list[str]] = {}
    for name in names:
        parts = name.split(".")
        for size in range(1, len(parts) + 1):
            ends.setdefault(".".join(parts[-size:]), []).append(name)
    return {name: _shortest(name, ends) for name in names}


def _shortest(name: str, ends: dict[str, list[str]]) -> str:
    parts = name.split(".")
    for size in range(min(2, len(parts)), len(parts)):
        end = ".".join(parts[-size:])
        if len(ends[end]) == 1:
            return end
    return name


def listed(names: Sequence[str], most: int) -> str:
    """The first few of a list, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def held_back_by(one: Candidate, short: dict[str, str], most: int = 1) -> str:
    """What a candidate shares, dearest first; or that it is free."""
    if one.coupling.reason:
        return f"set by hand: {one.coupling.reason}"
    if not one.shares:
        return "nothing"
    return listed([short.get(name, name) for name, _ in one.shares], most)


def factors_of(one: Candidate) -> tuple[tuple[str, Factor], ...]:
    return (("clarity", one.clarity), ("viability", one.viability), ("coupling", one.coupling))


# -- a terminal --------------------------------------------------------------------------------------------


def _table(score: Score, short: dict[str, str]) -> Iterator[str]:
    shown = score.candidates[:ROWS]
    wide = min(36, max(len("package"), *(len(one.name) for one in shown)))
    yield f"{'score':>7}  {'package':<{wide}}  clarity  viability  coupling  held back by"
    for one in shown:
        name = one.name if len(one.name) <= wide else "..." + one.name[3 - wide :]
        figures = f"{_set(one.clarity):>7}  {_set(one.viability):>9}  {_set(one.coupling):>8}"
        yield f"{one.score:>7.1f}  {name:<{wide}}  {figures}  {held_back_by(one, short)}"
    if len(score.candidates) > ROWS:
        yield f"         and {len(score.candidates) - ROWS} more; all of them are in --format json"


def _set(factor: Factor) -> str:
    return f"{factor.value:.1f}" + ("*" if factor.reason else "")


def _explained(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    few = len(candidates) <= EXPLAINED + 1
    return candidates if few else (*candidates[:EXPLAINED], candidates[-1])


def _explanation(one: Candidate, score: Score, short: dict[str, str]) -> Iterator[str]:
    figures = f"{one.clarity.value:.1f} x {one.viability.value:.1f} / {one.coupling.value:.1f}"
    said = _clean(f"{one.name}: {figures} = {one.score:.1f}   ({_size(one)})")
    yield from wrap(said, WIDE, subsequent_indent="  ", replace_whitespace=False)
    for name, factor in factors_of(one):
        head = f"{name} {factor.value:.1f}"
        rows = inputs_of(one, factor, score, short)
        for row in rows:
            yield from wrap(_clean(row), WIDE, initial_indent=f"  {head:<16} ", subsequent_indent=" " * 21)
            head = ""


def inputs_of(one: Candidate, factor: Factor, score: Score, short: dict[str, str]) -> list[str]:
    """What a factor was made from, a line each."""
    rows = [f"set by hand ({factor.derived:.1f} by the code): {factor.reason}"] if factor.reason else []
    rows += [f"{part.name} {part.share:.0%}: {part.said}" for part in factor.parts]
    return [*rows, *_coupled(one, score, short)] if factor is one.coupling else rows


def _coupled(one: Candidate, score: Score, short: dict[str, str]) -> Iterator[str]:
    if not one.shares:
        own = f"; has {one.own} to itself" if one.own else ""
        yield f"shares no state{own}"
    states = {state.name: state for state in score.states}
    for name, cost in one.shares[:DEAREST]:
        yield f"+{cost:.2f} {_grips(states[name], one.name, short)}"
    if len(one.shares) > DEAREST:
        rest = sum(cost for _, cost in one.shares[DEAREST:])
        yield f"+{rest:.2f} for {len(one.shares) - DEAREST} more, with {listed(one.partners, 4)}"


def _grips(state: SharedState, package: str, short: dict[str, str]) -> str:
    """A state, what for, and who does what to it: the package itself first."""
    mine = next(hold.grip for hold in state.holds if hold.package == package)
    others = [f"{hold.package} {hold.grip}" for hold in state.holds if hold.package != package]
    return f"{short[state.name]} ({state.category}, weight {state.weight:g}): {mine}; {listed(others, 3)}"


def _size(one: Candidate) -> str:
    return f"{counted(one.files, 'file')}, {counted(one.functions, 'function')}, {counted(one.handlers, 'handler')}"


def counted(count: int, word: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _footnotes(score: Score) -> Iterator[str]:
    shared = len(score.shared)
    yield f"{counted(len(score.states), 'state')}, {shared} of them held by more than one package"
    if score.passed_over:
        yield f"no candidates, for they serve nothing and hold nothing: {listed(score.passed_over, 6)}"
    if score.excluded:
        yield f"excluded by configuration: {listed(score.excluded, 6)}"
    if any(factor.reason for one in score.candidates for _, factor in factors_of(one)):
        yield "* set by hand in [tool.statekit.audit.score.override]"
    yield from score.notes


def _clipped(line: str) -> str:
    """No longer than a terminal is wide."""
    clean = _clean(line)
    return clean if len(clean) <= WIDE else clean[: WIDE - 3] + "..."


def _clean(line: str) -> str:
    return printable(line).rstrip()


def printable(said: str) -> str:
    """One line, whatever a name may hold."""
    return "".join(char if char.isprintable() else " " for char in said)


# -- a pull request ----------------------------------------------------------------------------------------


def markdown(score: Score) -> str:
    """The table, and below it who shares what; for a comment on a pull request."""
    if not score.candidates:
        return ""
    short = short_names(score)
    lines = ["### What to move first", "", f"`{FORMULA}`", ""]
    lines += [
        "| score | package | clarity | viability | coupling | held back by |",
        "|--:|---|--:|--:|--:|---|",
    ]
    for one in score.candidates[:ROWS]:
        figures = " | ".join(_set(factor) for _, factor in factors_of(one))
        lines.append(
            f"| **{one.score:.1f}** | {_code(one.name)} | {figures} | {_plain(held_back_by(one, short))} |"
        )
    lines += ["", *_shared_rows(score, short), *(f"- {_plain(one)}" for one in _footnotes(score))]
    return "\n".join(lines) + "\n"


def _shared_rows(score: Score, short: dict[str, str]) -> Iterator[str]:
    shared = sorted(score.shared, key=lambda one: (-len(one.holds), one.name))[:ROWS]
    if shared:
        yield "| shared state | category | who holds it |"
        yield "|---|---|---|"
        yield from (_shared_row(one, short) for one in shared)
        yield ""


def _shared_row(one: SharedState, short: dict[str, str]) -> str:
    holds = listed([_hold(hold) for hold in one.holds], 5)
    return f"| {_code(short[one.name])} | {one.category} | {holds} |"


def _hold(one: Hold) -> str:
    return f"{_code(one.package)} {one.grip}"


def _code(name: str) -> str:
    return f"`{_plain(name).replace('`', '')}`"


def _plain(said: str) -> str:
    """Text that ends neither the cell nor the line nor begins a tag."""
    return _clean(said).replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")
