"""A function while it is read: what it saw, and, at its end, which of that was its own business only."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

from statekit.audit.facts import Function, Value, Write
from statekit.audit.reading.chains import BUILTINS, root_of
from statekit.audit.reading.values import value_of

__all__ = ["Scope", "Seen"]

DEEP = 4
"""Steps from a local variable to what it stands for."""
HELD = 2
"""How much is kept of what a local variable was given."""
UNHEARD = {"print", "log", "logger", "logging", "LOGGER", "LOG"}
"""What is called so answers nothing: not worth a note."""
Seen = tuple[str, str, int, str, ast.AST | None, int]
"""A write as it was seen: as `Write`, but with syntax and how deep to look into it. Most are a function's own
business, so that nobody ever looks."""


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
        self.holds: dict[str, tuple[int, ast.AST]] = {}
        self.decorators: tuple[Value, ...] = ()
        self.calls: dict[str, int] = {}
        self.loads: set[str] = set()
        self.writes: list[Seen] = []
        self.passed: list[tuple[str, str | int, str]] = []
        self.tests: set[str] = set()
        self.guards: list[tuple[str, int, int]] = []
        self.returns: list[ast.AST] = []
        self.marks: set[str] = set()
        self.called_at: list[tuple[str, int]] = []
        self.captured: set[str] = set()
        self.dropped: list[str] = []
        self.spawns: list[tuple[str, int, str, str]] = []

    # -- whose is it ------------------------------------------------------------------------------------

    def placed(self, chain: str) -> str | None:
        """The chain as others would spell it; None where it is this function's own. Asked when all is read."""
        known = self._placed
        if chain not in known:
            known[chain] = self.place(chain, DEEP)
        return known[chain]

    def place(self, chain: str, steps: int) -> str | None:
        """The same, found anew in so many steps."""
        root = root_of(chain)
        if self.is_module or root in self.globals:
            return chain
        if root in self.aliases and steps:
            known = self.aliases[root]
            rest = chain[len(root) :]
            return self.place(known + rest, steps - 1) if root_of(known) != root else self._own(root, chain)
        if root == self.me:
            return "self" + chain[len(root) :] if root != "cls" else chain
        if root in self.locals and root not in self.outers:
            return self._own(root, chain)
        return self._outside(root, chain, steps)

    def _own(self, root: str, chain: str) -> str | None:
        return chain if root in self.params and chain != root else None

    def _outside(self, root: str, chain: str, steps: int) -> str | None:
        outer = self.outer
        while outer and not outer.is_module:
            if root == outer.me:
                return "self" + chain[len(root) :] if root != "cls" else chain
            if root in outer.aliases and steps:
                found = outer.place(outer.aliases[root] + chain[len(root) :], steps - 1)
                if found is not None:
                    return found
            if root in outer.locals:
                outer.captured.add(root)
                return f"{outer.name}::{chain}"
            outer = outer.outer
        return chain

    # -- what is kept -----------------------------------------------------------------------------------

    def closed(self) -> Function:
        """All that reaches beyond the function."""
        if not self.is_module:  # most names are plain variables: known without a look
            self._placed = dict.fromkeys(
                self.locals.difference(self.aliases, self.globals, self.outers, (self.me,))
            )
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
            reads=self._reads(),
            writes=writes,
            passed=tuple(sorted(self._passed())) if self.passed else (),
            tests=tuple(sorted(set(filter(None, map(self.placed, self.tests))))) if self.tests else (),
            guards=tuple(self._guards(writes)) if self.guards else (),
            returns=tuple(self._returns()) if self.returns else (),
            marks=tuple(sorted(self.marks)),
            holds=tuple(self._captured()) if self.captured else (),
            dropped=tuple(sorted(self._dropped())) if self.dropped else (),
            spawns=tuple(
                [(made, line, name, self.placed(ran) or ran) for made, line, name, ran in self.spawns]
            ),
        )

    def _calls(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for chain, line in self.calls.items():
            placed = self.placed(chain)
            if placed and placed not in BUILTINS:
                found.setdefault(placed, line)
        return found

    def _dropped(self) -> set[str]:
        """What is only ever called as a statement."""
        dropped = Counter(self.dropped)
        times = Counter([chain for chain, _ in self.called_at if chain in dropped])
        only = [chain for chain, count in dropped.items() if count == times[chain]]
        return {placed for chain in only if root_of(chain) not in UNHEARD and (placed := self.placed(chain))}

    def _reads(self) -> tuple[str, ...]:
        found = set(map(self.placed, self.loads)) - BUILTINS
        params = self.params
        return tuple(
            sorted([one for one in found if one and (root_of(one) not in params or _of_the_app(one))])
        )

    def _writes(self) -> Iterator[Write]:
        for spelt, op, line, key, value, depth in self.writes:
            bare = op == "=" and "." not in spelt and "[" not in spelt
            if bare and spelt not in self.globals and spelt not in self.outers:
                continue  # a local variable, whatever it was given before
            target = spelt if bare and spelt in self.globals else self._target(spelt)
            if target is not None:
                yield Write(target, op, line, self._key(key), self._put(value, depth))

    def _put(self, node: ast.AST | None, depth: int) -> Value | None:
        """What is put away: what a local variable was given, where it is that."""
        if node is None:
            return None
        value = value_of(node, depth)
        if value.kind != "chain" or value.text in self.globals:
            return value
        return self._held(value.text) or value

    def _held(self, name: str) -> Value | None:
        return value_of(self.holds[name][1], HELD) if name in self.holds else None

    def _captured(self) -> Iterator[tuple[str, int, Value]]:
        for name in sorted(self.captured.intersection(self.holds)):
            line, node = self.holds[name]
            yield name, line, value_of(node, HELD)

    def _target(self, chain: str) -> str | None:
        """As `placed`; what is done to a parameter is done to somebody else's object."""
        return self.placed(chain) or (
            chain if root_of(chain) in self.params and root_of(chain) not in self.aliases else None
        )

    def _key(self, key: str) -> str:
        return (self.placed(key) or key) if key else ""

    def _passed(self) -> Iterator[tuple[str, str, str]]:
        for callee, place, what in set(self.passed):
            placed = self.placed(what)
            if placed and placed not in BUILTINS and (placed != what or root_of(placed) not in self.params):
                yield self.placed(callee) or callee, str(place), placed

    def _guards(self, writes: tuple[Write, ...]) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
        for chain, start, end in self.guards:
            placed = self.placed(chain)
            if placed:
                called = {self.placed(one) or one for one, line in self.called_at if start <= line <= end}
                written = {one.target for one in writes if start <= one.line <= end}
                yield placed, tuple(sorted(called)), tuple(sorted(written))

    def _returns(self) -> Iterator[Value]:
        for node in self.returns:
            one = value_of(node, 1)
            placed = self.placed(one.text) if one.kind in {"chain", "call"} else one.text
            if placed is not None:
                yield one if placed is one.text else one._replace(text=placed)
            elif held := self._held(one.text):
                yield held
            elif one.text in self.params or one.text in self.inner:
                yield one  # a decorator hands back what it was given, or what it made of it


def _of_the_app(chain: str) -> bool:
    return ".app" in chain or ".state." in chain or ".config" in chain
