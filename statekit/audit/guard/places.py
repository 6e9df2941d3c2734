"""From a name of the audit to the live thing: looked up in `sys.modules`, importing nothing, calling nothing."""

from __future__ import annotations

import gc
import sys
import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from statekit.audit.guard.named import Named
from statekit.audit.guard.prints import ABSENT, Print, Printer, body_of, dict_of, fields_of

__all__ = ["Place", "found"]

_NOTHING: Any = object()
MOST_OBJECTS = 8
"""Objects of one class that are watched."""
_DICT_OF_MODULE: Any = vars(types.ModuleType)["__dict__"]

Place = Callable[[Printer], Print]
"""Takes the print of the state at a place."""


def found(wanted: Iterable[Named], apps: Iterable[Any]) -> dict[str, Place]:
    """The places of those that can be found now, by qualified name. Looks once at every object there is, if it must."""
    places: dict[str, Place] = {}
    inner: list[tuple[Named, types.ModuleType, list[str]]] = []
    apps = list(apps)
    for one in wanted:
        for module, rest in _modules(one):
            place = _in_module(module, rest) or _of_app(rest, [*apps, *_apps_of(module)])
            if place:
                places[one.qualified_name] = place
                break
            inner.append((one, module, rest))
    if missing := [row for row in inner if row[0].qualified_name not in places]:
        places.update(_among_objects(missing))
    return places


def _modules(one: Named) -> list[tuple[types.ModuleType, list[str]]]:
    """Imported modules the name may begin with, likeliest first, and what remains of the name in each.

    An audit names modules from the folder it began in, Python from where it began to look: ``src.shop.limits`` may be
    ``shop.limits``, or ``__main__``.
    """
    parts = one.qualified_name.split(".")
    rows: list[tuple[bool, int, types.ModuleType, list[str]]] = []
    for end in range(len(parts) - 1, 0, -1):
        for start in range(end):
            module: Any = sys.modules.get(".".join(parts[start:end]))
            if issubclass(type(module), types.ModuleType):
                rows.append((_is_at(module, one), end - start, module, parts[end:]))
    main = sys.modules["__main__"]
    if _is_at(main, one):
        rows.append((True, 0, main, parts[one.path.removesuffix("/__init__.py").count("/") + 1 :]))
    rows.sort(key=lambda row: row[:2], reverse=True)
    return [row[2:] for row in rows]


def _is_at(module: types.ModuleType, one: Named) -> bool:
    file = _names(module).get("__file__")
    return bool(one.path) and type(file) is str and file.replace("\\", "/").endswith("/" + one.path)


def _names(module: types.ModuleType) -> dict[str, Any]:
    return _DICT_OF_MODULE.__get__(module) or {}


def _in_module(module: types.ModuleType, rest: list[str]) -> Place | None:
    """The place of a variable of a module, of an attribute of one of its classes, of a decorated function."""
    names: Any = _names(module)
    for step in rest[:-1]:
        owner = names.get(step)
        if not issubclass(type(owner), type):
            return None
        names = body_of(owner)
    last = rest[-1]
    return (lambda printer: _at(printer, names, last)) if last in names else None


def _at(printer: Printer, names: Any, key: str) -> Print:
    value: Any = names.get(key, _NOTHING)
    if value is _NOTHING:
        return ABSENT
    while type(value) is staticmethod or type(value) is classmethod:
        value = value.__func__
    return _function(printer, value) if type(value) is types.FunctionType else printer.of(value)


def _function(printer: Printer, value: types.FunctionType) -> Print:
    """What a decorated function keeps: in its variables from outside, in its attributes."""
    cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=False)
    kept = [(name, _content(cell)) for name, cell in cells]
    pairs = [(hash(name), f".{name}", one) for name, one in [*kept, *fields_of(value)] if one is not ABSENT]
    return printer.parts(types.FunctionType, pairs, 4, 2, -1, whole=True)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return ABSENT


# -- on the application ----------------------------------------------------------------------------------------


def _apps_of(module: types.ModuleType) -> list[Any]:
    return [
        one for name, one in list(_names(module).items()) if name.lstrip("_") in {"app", "application", "api"}
    ]


def _of_app(rest: list[str], apps: Iterable[Any]) -> Place | None:
    """The place of something kept on an application: ``app.state.x``, ``app.config["x"]``, ``app["x"]``, ``app.x``."""
    if len(rest) != 1:
        return None
    for app in apps:
        for names in _rooms(app):
            if dict.__contains__(names, rest[0]):
                return lambda printer, names=names: _at(printer, _Bare(names), rest[0])  # type: ignore[misc]
    return None


class _Bare:
    """A dict of any class, read as the plain dict it is."""

    def __init__(self, names: dict[Any, Any]) -> None:
        self._names = names

    def get(self, key: str, default: Any) -> Any:
        return dict.get(self._names, key, default)


def _rooms(app: Any) -> list[dict[Any, Any]]:
    own = dict(fields_of(app))
    state = dict(fields_of(own.get("state")))
    rooms = [
        state.get("_state"),
        own.get("config"),
        own.get("extensions"),
        own.get("_state"),
        dict_of(app),
    ]
    return [one for one in rooms if one is not None and issubclass(type(one), dict)]


# -- in objects and closures ------------------------------------------------------------------------------------


def _among_objects(rows: list[tuple[Named, types.ModuleType, list[str]]]) -> dict[str, Place]:
    """Attributes of objects, and variables of functions that inner functions keep: one look at all there is."""
    classes: dict[int, list[weakref.ref[Any] | Any]] = {}
    wanted: list[tuple[Named, type, str]] = []
    closures: dict[tuple[str, str, str], str] = {}
    for one, module, rest in rows:
        owner: Any = _names(module).get(rest[0]) if len(rest) == 2 else None
        if issubclass(type(owner), type):
            classes[id(owner)] = []
            wanted.append((one, owner, rest[1]))
        elif len(rest) > 1:
            spelt = ".<locals>.".join(rest[:-1])
            closures[module.__name__, spelt, rest[-1]] = one.qualified_name
    places: dict[str, Place] = {}
    for thing in gc.get_objects():
        cls = type(thing)
        if id(cls) in classes and len(classes[id(cls)]) < MOST_OBJECTS:
            classes[id(cls)].append(_held(thing))
        elif closures and cls is types.FunctionType and thing.__closure__:
            _closure(thing, closures, places)
    for one, owner, attribute in wanted:
        if holders := classes[id(owner)]:
            places[one.qualified_name] = _of_objects(holders, attribute)
    return places


def _held(thing: Any) -> Any:
    """A weak reference, so that watching keeps nothing alive; the thing itself where it takes none."""
    try:
        return weakref.ref(thing)
    except TypeError:
        return lambda: thing


def _of_objects(holders: list[Any], attribute: str) -> Place:
    def place(printer: Printer) -> Print:
        values = [
            (n, dict(fields_of(one)).get(attribute, ABSENT))
            for n, hold in enumerate(holders)
            if (one := hold()) is not None
        ]
        values = [(n, one) for n, one in values if one is not ABSENT]
        if len(values) == 1:
            return printer.of(values[0][1])
        return printer.parts(list, ((n, n, one) for n, one in values), 5, 2, -1, whole=True)

    return place


def _closure(
    function: types.FunctionType, closures: dict[tuple[str, str, str], str], places: dict[str, Place]
) -> None:
    outer = function.__qualname__.rpartition(".<locals>.")[0]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        key = (function.__module__, outer, name)
        if key in closures:
            places[closures[key]] = lambda printer, cell=cell: _cell(printer, cell)  # type: ignore[misc]


def _cell(printer: Printer, cell: types.CellType) -> Print:
    value = _content(cell)
    return ABSENT if value is ABSENT else printer.of(value)
