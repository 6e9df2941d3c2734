"""A function while it is read: what it saw, and, at its end, which of that was its own business only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from statekit.audit.facts import Function, Value, Write
from statekit.audit.reading.chains import BUILTINS, root_of

__all__ = ["Scope"]

DEEP = 4
"""Steps from a local variable to what it stands for."""


class Scope:
    """One function, method, or the module's own code."""

    def __init__(self, name: str, within: str, outer: Scope | None) -> None:
        self.name = name
        self.is_module = name.startswith("<")
        self._placed: dict[str, str | None] = {}
        self.within = within
        self.outer = outer
        self.line = self.end = 0
        self.is_async = False
        self.me = ""
        """How the method calls its object: the first parameter."""
        self.params: dict[str, str] = {}
        self.locals: set[str] = set()
        self.inner: set[str] = set()
        """The functions defined inside."""
        self.globals: set[str] = set()
        self.outers: set[str] = set()
        self.aliases: dict[str, str] = {}
        self.holds: dict[str, tuple[int, Value]] = {}
        self.decorators: tuple[Value, ...] = ()
        self.calls: dict[str, int] = {}
        self.loads: set[str] = set()
        self.writes: list[Write] = []
        self.passed: set[tuple[str, str, str]] = set()
        self.tests: set[str] = set()
        self.guards: list[tuple[str, int, int]] = []
        self.returns: list[Value] = []
        self.marks: set[str] = set()
        self.called_at: list[tuple[str, int]] = []
        self.captured: set[str] = set()
        self.dropped: Counter[str] = Counter()
        self.spawns: list[tuple[str, int, str, str]] = []

    # -- whose is it ------------------------------------------------------------------------------------

    def placed(self, chain: str, steps: int = DEEP) -> str | None:
        """The chain as others would spell it; None where it is this function's own. Asked when all is read."""
        if steps == DEEP and chain in self._placed:
            return self._placed[chain]
        found = self._place(chain, steps)
        if steps == DEEP:
            self._placed[chain] = found
        return found

    def _place(self, chain: str, steps: int) -> str | None:
        root = root_of(chain)
        rest = chain[len(root) :]
        if root in self.globals or self.is_module:
            return chain
        if root in self.aliases and steps:
            known = self.aliases[root]
            return self.placed(known + rest, steps - 1) if root_of(known) != root else self._own(root, rest)
        if root == self.me:
            return "self" + rest if root != "cls" else chain
        if root in self.locals and root not in self.outers:
            return self._own(root, rest)
        return self._outside(root, rest, steps)

    def _own(self, root: str, rest: str) -> str | None:
        return root + rest if root in self.params and rest else None

    def _outside(self, root: str, rest: str, steps: int) -> str | None:
        outer = self.outer
        while outer and not outer.is_module:
            if root == outer.me:
                return "self" + rest if root != "cls" else root + rest
            if root in outer.aliases and steps:
                known = outer.aliases[root]
                found = outer.placed(known + rest, steps - 1)
                if found is not None:
                    return found
            if root in outer.locals:
                outer.captured.add(root)
                return f"{outer.name}::{root}{rest}"
            outer = outer.outer
        return root + rest

    # -- what is kept -----------------------------------------------------------------------------------

    def closed(self) -> Function:
        """All that reaches beyond the function."""
        writes = tuple(self._writes())
        return Function(
            name=self.name,
            line=self.line,
            end=self.end,
            within=self.within,
            outer=self.outer.name if self.outer and not self.outer.is_module else "",
            is_async=self.is_async,
            params=tuple(self.params.items()),
            decorators=self.decorators,
            calls=self._calls(),
            reads=tuple(sorted(set(self._reads()))),
            writes=writes,
            passed=tuple(sorted(self._passed())),
            tests=tuple(sorted(set(filter(None, map(self.placed, self.tests))))),
            guards=tuple(self._guards(writes)),
            returns=tuple(self._returns()),
            marks=tuple(sorted(self.marks)),
            holds=tuple((name, *self.holds[name]) for name in sorted(self.captured & set(self.holds))),
            dropped=tuple(sorted(set(self._dropped()))),
            spawns=tuple(
                (made, line, name, self.placed(ran) or ran) for made, line, name, ran in self.spawns
            ),
        )

    def _calls(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for chain, line in self.calls.items():
            placed = self.placed(chain)
            if placed and placed not in BUILTINS:
                found.setdefault(placed, line)
        return found

    def _dropped(self) -> Iterator[str]:
        times = Counter(chain for chain, _ in self.called_at if chain in self.dropped) if self.dropped else {}
        for chain, count in self.dropped.items():
            placed = self.placed(chain)
            if placed and count == times.get(chain):
                yield placed

    def _reads(self) -> Iterator[str]:
        for chain in self.loads:
            placed = self.placed(chain)
            if (
                placed
                and placed not in BUILTINS
                and (root_of(placed) not in self.params or _of_the_app(placed))
            ):
                yield placed

    def _writes(self) -> Iterator[Write]:
        for one in self.writes:
            bare = one.op == "=" and "." not in one.target and "[" not in one.target
            if bare and one.target not in self.globals and one.target not in self.outers:
                continue  # a local variable, whatever it was given before
            target = one.target if bare and one.target in self.globals else self._target(one.target)
            if target is not None:
                yield one._replace(target=target, key=self._key(one.key), value=self._held(one.value))

    def _held(self, value: Value | None) -> Value | None:
        """What a local variable was given, where that is what is put away."""
        if value is None or value.kind != "chain" or value.text in self.globals:
            return value
        return self.holds[value.text][1] if value.text in self.holds else value

    def _target(self, chain: str) -> str | None:
        """As `placed`; what is done to a parameter is done to somebody else's object."""
        return self.placed(chain) or (
            chain if root_of(chain) in self.params and root_of(chain) not in self.aliases else None
        )

    def _key(self, key: str) -> str:
        return (self.placed(key) or key) if key else ""

    def _passed(self) -> Iterator[tuple[str, str, str]]:
        for callee, place, what in self.passed:
            placed = self.placed(what)
            if placed and placed not in BUILTINS and (placed != what or root_of(placed) not in self.params):
                yield self.placed(callee) or callee, place, placed

    def _guards(self, writes: tuple[Write, ...]) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
        for chain, start, end in self.guards:
            placed = self.placed(chain)
            if placed:
                called = {self.placed(one) or one for one, line in self.called_at if start <= line <= end}
                written = {one.target for one in writes if start <= one.line <= end}
                yield placed, tuple(sorted(called)), tuple(sorted(written))

    def _returns(self) -> Iterator[Value]:
        for one in self.returns:
            if one.kind in {"chain", "call"}:
                placed = self.placed(one.text)
                if placed is None:
                    held = self.holds.get(one.text)
                    if held:
                        yield held[1]
                    elif one.text in self.params or one.text in self.inner:
                        yield one  # a decorator hands back what it was given, or what it made of it
                    continue
                yield one._replace(text=placed)
            else:
                yield one


def _of_the_app(chain: str) -> bool:
    return ".app" in chain or ".state." in chain or ".config" in chain
