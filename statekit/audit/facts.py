"""What is kept of a file once it has been read: plain tuples, small enough to send, to cache and to search.

Places are spelt as **chains**: ``CACHE``, ``self.seen[]``, ``request.app.state.hits``, ``get_manager().rooms[]``.
``[]`` stands for any element, ``()`` for the result of a call; a local variable that was given a longer-lived
object is spelt as what it was given. A variable of an enclosing function is ``outer::name``.

Everything here is a tuple of strings, numbers, tuples and dicts, so that `marshal` can carry it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["FORMAT", "Binding", "Class", "FileFacts", "Function", "Value", "Write"]

FORMAT = 4
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


def thawed(row: tuple[Any, ...]) -> FileFacts:
    """Give names back to what `marshal` carried as bare tuples."""
    path, imports, stars, functions, classes, bindings, comments, notes, error = row
    return FileFacts(
        path,
        imports,
        stars,
        tuple(_function(one) for one in functions),
        tuple(Class(one[0], one[1], one[2], _values(one[3]), _named(one[4])) for one in classes),
        tuple(Binding(one[0], one[1], one[2], _value(one[3]), one[4], one[5]) for one in bindings),
        comments,
        notes,
        error,
    )


def frozen(facts: FileFacts) -> tuple[Any, ...]:
    """Take the names off, for `marshal`."""
    return _bare(facts)  # type: ignore[no-any-return]


def _bare(thing: Any) -> Any:
    if isinstance(thing, tuple):
        return tuple([_bare(one) for one in thing])
    return thing


def _value(row: Any) -> Value:
    return Value(row[0], row[1], _values(row[2]), _named(row[3]), row[4])


def _values(rows: Any) -> tuple[Value, ...]:
    return tuple([_value(one) for one in rows]) if rows else ()


def _named(rows: Any) -> tuple[tuple[str, Value], ...]:
    return tuple([(name, _value(one)) for name, one in rows]) if rows else ()


def _function(row: Any) -> Function:
    one = Function(*row)
    return one._replace(
        decorators=_values(one.decorators),
        writes=tuple([Write(w[0], w[1], w[2], w[3], w[4] and _value(w[4])) for w in one.writes]),
        returns=_values(one.returns),
        holds=tuple([(name, line, _value(value)) for name, line, value in one.holds]),
    )
