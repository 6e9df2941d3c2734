"""What is kept of a file once it has been read: plain tuples, small enough to send, to cache and to search.

Places are spelt as **chains**: ``CACHE``, ``self.seen[]``, ``request.app.state.hits``, ``get_manager().rooms[]``.
``[]`` stands for any element, ``()`` for the result of a call; a local variable that was given a longer-lived
object is spelt as what it was given. A variable of an enclosing function is ``outer::name``.

Everything here is a tuple of strings, numbers, tuples and dicts, so that `marshal` can carry it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["FORMAT", "Binding", "Class", "FileFacts", "Function", "Value", "Write"]

FORMAT = 5
"""Part of the cache's key: raise it whenever the reader keeps something else."""


class Value(NamedTuple):
    """What stands to the right of an assignment, as far as it matters."""

    kind: str
    """const · none · dict · list · set · tuple · comprehension · call · chain · lambda · either · other"""
    text: str = ""
    """The chain called or named; a constant as it is spelt (strings without their quotes)."""
    parts: tuple[Value, ...] = ()
    """Elements (of the first few), positional arguments, or alternatives."""
    named: tuple[tuple[str, Value], ...] = ()
    """Keyword arguments, or the items of a dict whose keys are strings."""
    size: int = 0
    """How many elements a literal has."""


class Write(NamedTuple):
    """A change of something that may live longer than the function that makes it."""

    target: str
    op: str
    """``=`` rebind · ``[]=`` item · ``+=`` in place · ``del`` · or the name of a method that changes its object"""
    line: int
    key: str = ""
    """The chain of the key, where there is one: whose state it is."""
    value: Value | None = None


class Function(NamedTuple):
    """A function, a method, or the code of the module itself (``<module>``; below ``__main__``: ``<main>``)."""

    name: str
    """Qualified within the module: ``Class.method``, ``outer.<locals>.inner`` spelt ``outer.inner``."""
    line: int
    end: int
    within: str
    """The class it is a method of, else ''."""
    outer: str
    """The function it is nested in, else ''."""
    is_async: bool
    params: tuple[tuple[str, str], ...]
    """Names and the chains of their annotations."""
    decorators: tuple[Value, ...]
    calls: dict[str, int]
    """Chains called, and the line of the first call."""
    reads: tuple[str, ...]
    writes: tuple[Write, ...]
    passed: tuple[tuple[str, str, str], ...]
    """Chains given away: to whom, as which argument, what."""
    tests: tuple[str, ...]
    """Chains some condition asks about: whether they are None, empty, or hold a key."""
    guards: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]
    """``with X:`` : X, the chains called inside, the targets written inside."""
    returns: tuple[Value, ...]
    marks: tuple[str, ...]
    """What else was noticed: ``429``, ``yield``, ``compares-time``, ``forever`` (a loop without end), ``sql``."""
    holds: tuple[tuple[str, int, Value], ...]
    """Local variables that were given a container or the result of a call: name, line, value."""
    spawns: tuple[tuple[str, int, str, str], ...] = ()
    """Threads and tasks made here: by what, on which line, what they are assigned to ('' if nothing), what they run."""
    dropped: tuple[str, ...] = ()
    """Chains called as statements only: nobody here looks at what they answer."""


class Class(NamedTuple):
    """A class: bases, decorators, and whether its body says more than assignments."""

    name: str
    line: int
    bases: tuple[str, ...]
    decorators: tuple[Value, ...]
    keywords: tuple[tuple[str, Value], ...]
    """``metaclass=…`` and its like."""


class Binding(NamedTuple):
    """A name given a value in the body of the module or of a class."""

    owner: str
    """The class, or '' for the module."""
    name: str
    line: int
    value: Value
    annotation: str = ""
    under: str = ""
    """The condition it stands under, as chains, where it does."""


class FileFacts(NamedTuple):
    """All that is kept of one file."""

    path: str
    imports: dict[str, str]
    """Local names, and the dotted name each was imported as (relative imports keep their dots)."""
    stars: tuple[str, ...]
    functions: tuple[Function, ...]
    classes: tuple[Class, ...]
    bindings: tuple[Binding, ...]
    comments: tuple[tuple[int, str], ...]
    """Comments addressed to the audit, by line."""
    notes: dict[int, str] = {}  # noqa: RUF012 - never changed
    """What comments say beside bindings, by the line of the binding."""
    error: str = ""
    """Why the file could not be read, else ''."""


def frozen(facts: FileFacts) -> tuple[Any, ...]:
    """Take the names off, for `marshal`. A slice of a named tuple is a bare one, and the quickest way to it."""
    path, imports, stars, functions, classes, bindings, *rest = facts
    return (
        path,
        imports,
        stars,
        tuple([_bare_function(one) for one in functions]),
        tuple([(*one[:3], _bare_all(one.decorators), _bare_named(one.keywords)) for one in classes]),
        tuple([(*one[:3], _bare(one.value), *one[4:]) for one in bindings]),
        *rest,
    )


def _bare(value: Value) -> tuple[Any, ...]:
    kind, text, parts, named, size = value
    if parts or named:
        return kind, text, _bare_all(parts), _bare_named(named), size
    return value[:]


def _bare_all(values: tuple[Value, ...]) -> tuple[Any, ...]:
    return tuple([_bare(one) for one in values]) if values else ()


def _bare_named(named: tuple[tuple[str, Value], ...]) -> tuple[Any, ...]:
    return tuple([(name, _bare(one)) for name, one in named]) if named else ()


def _bare_function(one: Function) -> tuple[Any, ...]:
    row = list(one)
    row[_DECORATORS] = _bare_all(one.decorators)
    row[_WRITES] = tuple([(*w[:4], w.value and _bare(w.value)) for w in one.writes])
    row[_RETURNS] = _bare_all(one.returns)
    row[_HOLDS] = tuple([(name, line, _bare(value)) for name, line, value in one.holds])
    return tuple(row)


def thawed(row: tuple[Any, ...]) -> FileFacts:
    """Give names back to what `marshal` carried as bare tuples."""
    path, imports, stars, functions, classes, bindings, *rest = row
    return FileFacts(
        path,
        imports,
        stars,
        tuple([_function(one) for one in functions]),
        tuple([_new(Class, (*one[:3], _values(one[3]), _named(one[4]))) for one in classes]),
        tuple([_new(Binding, (*one[:3], _value(one[3]), *one[4:])) for one in bindings]),
        *rest,
    )


_new = tuple.__new__
"""Makes a named tuple of a bare one, without a call of what `NamedTuple` defines: there are half a million of them."""
_DECORATORS, _WRITES, _RETURNS, _HOLDS = map(
    Function._fields.index, ("decorators", "writes", "returns", "holds")
)
"""Where a function has values in it."""


def _value(row: Any) -> Value:
    kind, text, parts, named, size = row
    if parts or named:
        row = kind, text, _values(parts), _named(named), size
    return _new(Value, row)


def _values(rows: Any) -> tuple[Value, ...]:
    return tuple([_value(one) for one in rows]) if rows else ()


def _named(rows: Any) -> tuple[tuple[str, Value], ...]:
    return tuple([(name, _value(one)) for name, one in rows]) if rows else ()


def _write(row: Any) -> Write:
    return _new(Write, (*row[:4], row[4] and _value(row[4])))


def _function(row: Any) -> Function:
    row = list(row)
    row[_DECORATORS] = _values(row[_DECORATORS])
    row[_WRITES] = tuple([_write(one) for one in row[_WRITES]])
    row[_RETURNS] = _values(row[_RETURNS])
    row[_HOLDS] = tuple([(name, line, _value(value)) for name, line, value in row[_HOLDS]])
    return _new(Function, row)
