"""Who shares which state: packages on the left, states on the right, sorted by what they are for. One SVG, no script.

Colours follow the reader's choice of light or dark. Whatever is pointed at keeps its colour, the rest steps back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from textwrap import wrap

from statekit.audit.model import Category
from statekit.audit.score.arrange import ROW, Arrangement, Row, arranged
from statekit.audit.score.model import Grip, Hold, Score
from statekit.audit.score.words import counted, listed

__all__ = ["picture"]

WIDTH, LEFT, RIGHT, TOP, FOOT = 980, 300, 640, 64, 54
UNDRAWABLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff]|[\t\n\r]"
)
"""What XML does not allow, and what would break a label in two."""
COLOURS = {
    Category.RATE_LIMITER: ("#b3541e", "#f0995f"),
    Category.FLAG_CACHE: ("#8a6d00", "#dcc04e"),
    Category.CLIENT_POOL: ("#5b6670", "#a3afba"),
    Category.TENANT_CONFIG: ("#7a4fa3", "#bd98e0"),
    Category.SESSION_STORE: ("#c8321f", "#ff7a66"),
    Category.MEMO_CACHE: ("#1f7a6d", "#4fc3ae"),
    Category.BACKGROUND_WORKER: ("#2f5fb3", "#7fa8f0"),
    Category.CONNECTION_MANAGER: ("#b02a6f", "#f083b8"),
    Category.LOCK: ("#3b3f8f", "#9a9ff0"),
    Category.COUNTER: ("#4e7a1f", "#9ac95f"),
    Category.EVENT_BUS: ("#0f7391", "#58bfdd"),
    Category.OTHER_SINGLETON: ("#6b5b4a", "#bfae9b"),
}
STYLE = (
    ".sk-who{--ink:#1c2126;--soft:#626b74;--hair:#e4e1d9;--paper:#fbfaf7}"
    ".sk-who text{fill:var(--ink);font:13px system-ui,-apple-system,'Segoe UI',Roboto,Arial,sans-serif}"
    ".sk-who .soft{fill:var(--soft);font-size:12px}"
    ".sk-who .head{font-weight:600;fill:var(--c);font-size:12px;letter-spacing:.02em}"
    ".sk-who .title{font-size:17px;font-weight:600}.sk-who .paper{fill:var(--paper)}"
    ".sk-who .link{fill:none;stroke:var(--c);opacity:.62;stroke-width:1.3}.sk-who .writes{stroke-width:2.8}"
    ".sk-who .calls{stroke-dasharray:5 3}.sk-who .binds{stroke-dasharray:1 4;stroke-linecap:round}"
    ".sk-who .dot{fill:var(--c)}.sk-who .pack{fill:var(--ink)}.sk-who .hit{fill:transparent}"
    ".sk-who .key{fill:none;stroke:var(--soft);stroke-width:1.3}.sk-who .key.writes{stroke-width:2.8}"
    ".sk-who .link:hover{opacity:1;stroke-width:4}"
)
DARK = "--ink:#e9e7e1;--soft:#98a1a9;--hair:#2c3238;--paper:#14171a"


def picture(score: Score, *, embedded: bool = False) -> str:
    """The SVG; `embedded` leaves out what a file of its own needs: a background and a title to read."""
    placed = arranged(score)
    top = 34 if embedded else TOP
    foot = list(_foot(score, placed))
    height = top + placed.height + FOOT + 17 * len(foot)
    body = "".join(_Drawing(score, placed, top).body()) if placed.drawn else _nothing(top)
    end = top + placed.height + 36
    notes = "".join(_text(20, end + 22 + 17 * n, line, "soft") for n, line in enumerate(foot))
    frame = "" if embedded else f'<rect class="paper" width="{WIDTH}" height="{height:.0f}"/>'
    head = "" if embedded else _text(20, 30, "Who shares which state", "title")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="sk-who" viewBox="0 0 {WIDTH} {height:.0f}"'
        f' {"" if embedded else _size(height)}role="img" aria-labelledby="sk-who-t sk-who-d">'
        f'<title id="sk-who-t">Who shares which state</title><desc id="sk-who-d">{_said(_summary(placed))}</desc>'
        f"<style>{_style(placed)}</style>{frame}{head}{body}{_key(end, scored=bool(score.candidates))}{notes}</svg>"
    )


def _size(height: float) -> str:
    return f'width="{WIDTH}" height="{height:.0f}" '


def _nothing(top: float) -> str:
    return _text(20, top + 8, "No state is held by more than one package.", "")


class _Drawing:
    """Draws links first, names above them."""

    def __init__(self, score: Score, placed: Arrangement, top: float) -> None:
        self.placed = placed
        self.top = top
        self.scores = {one.name: one for one in score.candidates}
        self.prefix = _prefix(list(placed.packages))
        self.package_at = {name: index for index, name in enumerate(placed.packages)}
        self.row_at = {one.name: index for index, one in enumerate(placed.drawn)}
        self.bars = {name: self._bar(name) for name in placed.packages}

    def body(self) -> Iterator[str]:
        for one in self.placed.drawn:
            for hold in one.holds:
                yield self._link(one, hold)
        for category, y in self.placed.headings.items():
            yield _text(RIGHT + 12, self.top + y + 5, str(category).replace("_", " "), f"head c-{category}")
        for one in self.placed.drawn:
            yield self._state(one)
        for name in self.placed.packages:
            yield self._package(name)

    def _held(self, name: str) -> list[Row]:
        """What a package holds, from the top."""
        return sorted(
            (one for one in self.placed.drawn if one.is_held_by(name)),
            key=lambda one: self.placed.rows[one.name],
        )

    def _bar(self, name: str) -> float:
        """How high a package's mark is: room for all its links, if there is any."""
        y = self.placed.packages[name]
        near = min(
            (abs(y - other) for one, other in self.placed.packages.items() if one != name), default=99.0
        )
        return max(8.0, min(near - 7, 6 + 2.4 * len(self._held(name))))

    def _leaves(self, one: Row, package: str) -> float:
        """Where on the mark a link begins: in the order in which they arrive."""
        held = self._held(package)
        room = max(0.0, self.bars[package] - 5)
        share = held.index(one) / (len(held) - 1) - 0.5 if len(held) > 1 else 0.0
        return self.top + self.placed.packages[package] + room * share

    def _link(self, one: Row, hold: Hold) -> str:
        y1, y2 = self._leaves(one, hold.package), self.top + self.placed.rows[one.name]
        middle = (LEFT + RIGHT) / 2
        kinds = f"link c-{one.category} {_kind(hold.grip)} p{self.package_at[hold.package]} s{self.row_at[one.name]}"
        places = listed(hold.functions, 4)
        said = f"{hold.package} {hold.grip} {one.label}" + (f": {places}" if places else "")
        curve = f"M{LEFT} {y1:.1f}C{middle:.0f} {y1:.1f} {middle:.0f} {y2:.1f} {RIGHT} {y2:.1f}"
        return f'<path class="{kinds}" d="{curve}"><title>{_said(said)}</title></path>'

    def _state(self, one: Row) -> str:
        y = self.top + self.placed.rows[one.name]
        holders = listed([f"{hold.package} {hold.grip}" for hold in one.holds], 12)
        names = ", ".join(f"{state.name} ({state.path}:{state.line})" for state in one.states[:20])
        dot = f'<circle class="dot" cx="{RIGHT}" cy="{y:.1f}" r="3.6"/>'
        label = _text(RIGHT + 12, y + 4.5, _cut(one.label, 46), "")
        said = _said(f"{names}, {one.category}: {holders}")
        kind = f"node c-{one.category} ns{self.row_at[one.name]}"
        return f'<g class="{kind}"><title>{said}</title>{_hit(RIGHT - 6, y)}{dot}{label}</g>'

    def _package(self, name: str) -> str:
        y, high = self.top + self.placed.packages[name], self.bars[name]
        known = self.scores.get(name)
        held = sum(len(one.states) for one in self._held(name))
        said = f"{name}: {held} shared" + (
            f", {known.own} of its own; score {known.score:.1f}" if known else ""
        )
        figure = f" · {known.score:.1f}" if known else ""
        label = f'<tspan>{_said(_cut(name.removeprefix(self.prefix), 34))}</tspan><tspan class="soft">{figure}</tspan>'
        mark = f'<rect class="pack" x="{LEFT - 6}" y="{y - high / 2:.1f}" width="6" height="{high:.1f}" rx="1.5"/>'
        text = f'<text x="{LEFT - 14}" y="{y + 4.5:.1f}" text-anchor="end">{label}</text>'
        kind = f"node np{self.package_at[name]}"
        return f'<g class="{kind}"><title>{_said(said)}</title>{_hit(0, y)}{mark}{text}</g>'


# -- what stands around it -----------------------------------------------------------------------------------


def _style(placed: Arrangement) -> str:
    used = dict.fromkeys(one.category for one in placed.drawn)
    light = "".join(f".sk-who .c-{one}{{--c:{COLOURS[one][0]}}}" for one in used)
    dark = "".join(f".sk-who .c-{one}{{--c:{COLOURS[one][1]}}}" for one in used)
    return f"{STYLE}{light}@media(prefers-color-scheme:dark){{.sk-who{{{DARK}}}{dark}}}{_pointing(placed)}"


def _pointing(placed: Arrangement) -> str:
    """Links of anything else fade while a package or a state is pointed at."""
    names = [f"p{n}" for n in range(len(placed.packages))] + [f"s{n}" for n in range(len(placed.drawn))]
    return "".join(f".sk-who:has(.n{one}:hover) .link:not(.{one}){{opacity:.07}}" for one in names)


def _key(y: float, *, scored: bool) -> str:
    parts = []
    x = 20
    for kind, said in (
        ("writes", "writes"),
        ("reads", "reads"),
        ("calls", "by calling who does"),
        ("binds", "defines it only"),
    ):
        parts.append(f'<line class="key {kind}" x1="{x}" x2="{x + 34}" y1="{y - 4:.1f}" y2="{y - 4:.1f}"/>')
        parts.append(_text(x + 42, y, said, "soft"))
        x += 66 + 7 * len(said)
    if scored:
        parts.append(_text(x + 8, y, "· figures beside packages: their score", "soft"))
    return "".join(parts)


def _foot(score: Score, placed: Arrangement) -> Iterator[str]:
    alone = [one.name for one in score.candidates if not one.shares]
    own = sum(not one.is_shared for one in score.states)
    prefix = _prefix(list(placed.packages))
    lines = [f"Names of packages begin with {prefix}"] if prefix and placed.drawn else []
    if alone:
        lines.append(f"Share nothing: {listed(alone, 8)}.")
    if own:
        lines.append(f"Not drawn: {counted(own, 'state')} that one package has to itself.")
    packages, states = placed.left_out
    if states:
        more = f", and for {counted(packages, 'more package')}" if packages else ""
        lines.append(f"No room for {counted(states, 'more shared state')}{more}.")
    for line in lines:
        yield from wrap(line, 142)


def _summary(placed: Arrangement) -> str:
    """What the picture shows, for who does not see it."""
    count = f"{len(placed.packages)} packages share {sum(len(one.states) for one in placed.drawn)} states. "
    rows = [
        f"{one.label}: {listed([f'{hold.package} {hold.grip}' for hold in one.holds], 6)}"
        for one in placed.drawn[:12]
    ]
    return count + "; ".join(rows)


def _prefix(names: list[str]) -> str:
    """The first name, with its dot, if all begin with it."""
    heads = {name.partition(".")[0] for name in names if "." in name}
    return f"{heads.pop()}." if len(heads) == 1 and all("." in name for name in names) else ""


def _kind(grip: Grip) -> str:
    return {
        Grip.WRITES: "writes",
        Grip.READS: "reads",
        Grip.WRITES_BY_CALLS: "writes calls",
        Grip.READS_BY_CALLS: "calls",
        Grip.BINDS: "binds",
    }[grip]


def _hit(x: float, y: float) -> str:
    """Room to point at: a whole row."""
    return f'<rect class="hit" x="{x:.0f}" y="{y - ROW / 2:.1f}" width="{LEFT if x == 0 else WIDTH - x:.0f}" height="{ROW}"/>'


def _text(x: float, y: float, said: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.0f}" y="{y:.1f}">{_said(said)}</text>'


def _cut(said: str, most: int) -> str:
    return said if len(said) <= most else f"{said[: most // 2 - 1]}…{said[most // 2 - most :]}"


def _said(said: str) -> str:
    return escape(UNDRAWABLE.sub(" ", said))
