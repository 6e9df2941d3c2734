"""The codec: how values become bytes in the store, and bytes values again.

The format is JSON text in UTF-8. What JSON has no word for is written as an object with one key that begins
with a tilde; an application's own dictionary of that shape is wrapped, so nothing is ever mistaken:

    bytes ``{"~b": base64}`` · tuple ``{"~t": [...]}`` · datetime ``{"~dt": ISO 8601}`` · date ``{"~d": ISO 8601}``
    nan and infinities ``{"~f": "nan" | "inf" | "-inf"}`` · wrapped dictionary ``{"~o": {...}}``

Rule 1: encoding is deterministic, and encoding what was decoded gives the same bytes.
Rule 2: decoding builds the types above and nothing else; it runs no code that the bytes choose.
Rule 3: depth and size are bounded both ways. That holds for all JSON statekit reads, from a store, a file or a
        peer: what is not a value of this codec is read by `tree`.
"""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from datetime import date, datetime
from types import NoneType
from typing import Any

from statekit.errors import CorruptValue, NonPrimitiveValue

__all__ = ["DEEPEST", "LARGEST", "checked", "decode", "encode", "is_plain", "tree"]

DEEPEST = 32
"""Levels of nesting; what goes deeper is most likely a structure that contains itself."""
LARGEST = 16 * 1024 * 1024
"""Bytes of one encoded value that decoding accepts."""
WIDEST = 4096
"""Bits of an integer; Python itself refuses to read numbers not much longer than that from text."""
_SURE = frozenset((str, float, bool, NoneType, bytes))
_SMALL = 1 << 63


def is_plain(value: Any) -> bool:
    """Whether a value is data at first sight: no need to look for something inside that is not."""
    return type(value) in _SURE or (type(value) is int and -_SMALL < value < _SMALL)


def encode(value: Any, path: str = "value") -> bytes:
    """Write a value as bytes. Raises `NonPrimitiveValue`, naming where it stands, if it is not data.

    Subclasses of the accepted types are written as the type they extend: ``Markup`` comes back as `str`, an
    ``IntEnum`` as `int`, a named tuple as `tuple`. An aware `datetime` comes back with its UTC offset.

    >>> encode({"seen": (1, None)})
    b'{"seen":{"~t":[1,null]}}'
    """
    if type(value) is int and -_SMALL < value < _SMALL:
        return b"%d" % value
    return _WRITER.encode(checked(value, path)).encode("utf-8", "surrogatepass")


def decode(raw: bytes) -> Any:
    """Read what `encode` wrote. Raises `CorruptValue` if these bytes are not that."""
    if len(raw) > LARGEST:
        raise CorruptValue(f"{len(raw)} bytes where a value has at most {LARGEST}: not written by statekit")
    try:
        text = raw.decode("utf-8", "surrogatepass").strip(" \t\r\n")
        tree, end = _READER.raw_decode(text)
        if end != len(text):
            _refused("what follows the value")
        return _revived(tree, DEEPEST) if type(tree) in _BRANCHES else tree
    except (ValueError, TypeError, RecursionError, OverflowError, Base64Error) as error:
        raise CorruptValue(  # without the bytes: errors are logged, and these may be anybody's secret
            f"{len(raw)} bytes that are no value statekit wrote: {type(error).__name__}"
        ) from None


def tree(text: str | bytes, deepest: int = DEEPEST, largest: int = LARGEST) -> Any:
    """Read JSON as it is, without tags. Raises `ValueError` for what is none, too deep, or too large.

    >>> tree('{"rollout":25}')
    {'rollout': 25}
    """
    if len(text) > largest:
        raise ValueError(f"{len(text):,} characters where at most {largest:,} are read")
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogatepass")
    try:
        found = _READER.decode(text)
    except RecursionError:
        raise ValueError(f"nested deeper than {deepest} levels") from None
    if text.count("[") + text.count("{") > deepest and _deeper(found, deepest):
        raise ValueError(f"nested deeper than {deepest} levels")
    return found


def _deeper(found: Any, deepest: int) -> bool:
    """Whether something lies further inside than that; looked at level by level, so its depth costs no stack."""
    level = [found]
    for _ in range(deepest + 1):
        level = [one for one in level if type(one) in _BRANCHES]
        if not level:
            return False
        level = [inner for one in level for inner in (one.values() if type(one) is dict else one)]
    return True


# -- values to trees of JSON -----------------------------------------------------------------------------


def checked(value: Any, path: str = "value", depth: int = DEEPEST) -> Any:
    """Return a value as what JSON can say, or raise `NonPrimitiveValue` at the first thing that is not data."""
    if value is None or value is True or value is False:
        return value
    for kind, write in _WRITERS:
        if isinstance(value, kind):
            if depth <= 0:
                raise NonPrimitiveValue(
                    f"{path} is nested deeper than {DEEPEST} levels, or contains itself: store less of it"
                )
            return write(value, path, depth - 1)
    raise NonPrimitiveValue(f"{path} is of type {_named(type(value))}, which is not data: {_cure(value)}")


def _text(value: str, _path: str, _depth: int) -> str:
    return str.__str__(value)


def _integer(value: int, path: str, _depth: int) -> int:
    if value.bit_length() > WIDEST:
        raise NonPrimitiveValue(
            f"{path} is an integer of {value.bit_length()} bits, more than {WIDEST}: store it as bytes"
        )
    return int(value)


def _number(value: float, _path: str, _depth: int) -> Any:
    return float(value) if math.isfinite(value) else {"~f": float.__repr__(value)}


def _octets(value: bytes, _path: str, _depth: int) -> Any:
    return {"~b": b64encode(value).decode()}


def _moment(value: datetime, _path: str, _depth: int) -> Any:
    return {"~dt": datetime.isoformat(value)}


def _day(value: date, _path: str, _depth: int) -> Any:
    return {"~d": date.isoformat(value)}


def _row(value: tuple[Any, ...], path: str, depth: int) -> Any:
    return {"~t": _items(value, path, depth)}


def _items(value: list[Any] | tuple[Any, ...], path: str, depth: int) -> list[Any]:
    return [checked(item, f"{path}[{index}]", depth) for index, item in enumerate(value)]


def _dictionary(value: dict[Any, Any], path: str, depth: int) -> Any:
    for key in value:
        if not isinstance(key, str):
            raise NonPrimitiveValue(
                f"{path} has the key {key!r} of type {type(key).__name__}: keys are text, use str(key)"
            )
    tree = {_text(key, path, 0): checked(item, f"{path}[{key!r}]", depth) for key, item in value.items()}
    return {"~o": tree} if _tagged(tree) else tree


# Ordered: a datetime is a date, and subclasses are written as the first type here that they extend.
_WRITERS: tuple[tuple[type, Callable[[Any, str, int], Any]], ...] = (
    (str, _text),
    (int, _integer),
    (float, _number),
    (list, _items),
    (dict, _dictionary),
    (tuple, _row),
    (bytes, _octets),
    (datetime, _moment),
    (date, _day),
)


def _named(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _cure(value: Any) -> str:
    if isinstance(value, set | frozenset):
        return "store sorted(value), a list"
    if isinstance(value, bytearray | memoryview):
        return "store bytes(value)"
    if type(value).__module__ in ("uuid", "decimal", "pathlib", "ipaddress", "fractions"):
        return "store str(value)"
    if hasattr(value, "id") or hasattr(value, "pk"):
        name = "id" if hasattr(value, "id") else "pk"
        return f"store its key (value.{name}) and load the object by it, once a request, with s.hydrate(...)"
    return "store text, numbers, bytes, dates, or tuples, lists and dicts of them"


# -- trees of JSON to values -----------------------------------------------------------------------------


_BRANCHES = frozenset((dict, list))


def _revived(tree: Any, depth: int) -> Any:
    if depth < 0:
        raise ValueError("too deep")
    if isinstance(tree, list):
        return [_revived(item, depth - 1) for item in tree]
    if isinstance(tree, dict):
        return _untagged(tree, depth) if _tagged(tree) else _opened(tree, depth)
    return tree


def _untagged(tree: dict[str, Any], depth: int) -> Any:
    ((tag, content),) = tree.items()
    if tag == "~t":
        return tuple(_revived(item, depth - 1) for item in _of(list, content))
    if tag == "~o":
        return _opened(_of(dict, content), depth)
    if tag not in _READERS:
        _refused(tag)
    return _READERS[tag](_of(str, content))


def _opened(tree: dict[str, Any], depth: int) -> dict[str, Any]:
    return {key: _revived(item, depth - 1) for key, item in tree.items()}


def _of(kind: type, content: Any) -> Any:
    if not isinstance(content, kind):
        raise TypeError(f"{type(content).__name__} where {kind.__name__} belongs")
    return content


_INFINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_READERS: Mapping[str, Callable[[str], Any]] = {
    "~b": lambda text: b64decode(text, validate=True),
    "~dt": datetime.fromisoformat,
    "~d": date.fromisoformat,
    "~f": lambda text: _INFINITE[text] if text in _INFINITE else _refused(text),
}


def _tagged(tree: Mapping[str, Any]) -> bool:
    return len(tree) == 1 and next(iter(tree)).startswith("~")


def _refused(what: str) -> Any:
    raise ValueError(f"{what} has no meaning here")


# Built once: `json.dumps` and `json.loads` with options build theirs at every call. What was `checked` has an end.
_WRITER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False)
_READER = json.JSONDecoder(parse_constant=_refused)
