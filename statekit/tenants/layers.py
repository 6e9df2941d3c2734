"""Layers: how stored overrides and the defaults in code become one settings object. Pure rules, no I/O.

    code defaults  <  global document  <  document of the group  <  document of the tenant

Rule 1: a document holds only what was overridden, never a copy of a default: a default changed in code takes
        effect for every tenant that did not override it.
Rule 2: a patch is a JSON merge patch (RFC 7396): objects merge, everything else replaces, None takes the
        override away.
Rule 3: what would not validate is refused before it is stored; what is stored by another release is read with
        tolerance: fields the model does not know are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import reduce
from types import UnionType
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, RootModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, to_jsonable_python

from statekit.errors import DocumentInvalid, UsageError
from statekit.store.codec import tree
from statekit.tenants.frozen import frozen, rebuilt, thawed
from statekit.tenants.settings import TenantSettings

__all__ = [
    "ABSENT",
    "Layers",
    "Overrides",
    "described",
    "followed",
    "found",
    "parsed",
    "patched",
    "read",
    "written",
]

S = TypeVar("S", bound=TenantSettings)
Overrides: TypeAlias = Mapping[str, Any]
ABSENT = object()


class Stored(Protocol):
    """A document as the replica keeps it."""

    @property
    def text(self) -> str: ...


# -- documents -------------------------------------------------------------------------------------------


def parsed(text: str) -> Overrides:
    """Read a stored document; raises `ValueError` if it is not a JSON object."""
    document = tree(text)
    if not isinstance(document, dict):
        raise ValueError(f"a tenant's document is a JSON object, not {text[:40]!r}")  # noqa: TRY004 - of the text
    return document


def read(document: Stored | None) -> Overrides:
    """The overrides a stored document holds; one that cannot be read, or is not there, holds none."""
    try:
        return parsed(document.text) if document else {}
    except ValueError:
        return {}


def written(document: Overrides) -> str:
    """Write a document the one way there is: sorted, compact, ASCII, as the replica passes it on."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


def patched(document: Overrides, patch: Overrides) -> dict[str, Any]:
    """Apply a merge patch to stored overrides; objects that end up empty go too."""
    result = dict(document)
    for name, change in patch.items():
        before = result.pop(name, None)
        if isinstance(change, Mapping):
            inner = patched(before if isinstance(before, Mapping) else {}, change)
            if inner or not change:
                result[name] = inner
        elif change is not None:
            result[name] = change
    return result


def found(document: Any, path: Sequence[str]) -> Any:
    """What a document says about a path: a value, the value that replaced what contained it, or `ABSENT`."""
    for name in path:
        if not isinstance(document, Mapping):
            return document
        if name not in document:
            return ABSENT
        document = document[name]
    return document


# -- the model -------------------------------------------------------------------------------------------


def described(error: ValidationError) -> str:
    """Say in one line what does not validate: each field, what it was given, what it wants. No URLs."""
    return "; ".join(
        f"{'.'.join(map(str, one['loc'])) or 'settings'}={one['input']!r:.80}: {one['msg']}"
        for one in error.errors(include_url=False, include_context=False)
    )


def known(model: type[BaseModel], patch: Overrides, where: str = "") -> dict[str, Any]:
    """Return a patch by the names the model reads, however its fields were spelt.

    Raises `DocumentInvalid` for a field there is not, naming the nearest there is.
    """
    names = {alias: name for name, one in model.model_fields.items() for alias in _spellings(name, one)}
    result = {}
    for given, change in patch.items():
        name = names.get(given)
        if name is None and model.model_config.get("extra") != "allow":
            raise DocumentInvalid(_unknown(model, f"{where}{given}", given))
        if name is None:
            result[given] = change
        else:
            inside = _known_inside(model.model_fields[name].annotation, change, f"{where}{name}.")
            result[_input_name(model, name)] = inside
    return result


def _spellings(name: str, field: FieldInfo) -> tuple[str, ...]:
    return (name, field.validation_alias) if isinstance(field.validation_alias, str) else (name,)


def _unknown(model: type[BaseModel], where: str, given: str) -> str:
    near = get_close_matches(str(given), model.model_fields, 1, 0.5)
    cure = f"did you mean {near[0]!r}" if near else f"there are {', '.join(sorted(model.model_fields))}"
    return f"{model.__name__} has no field {where!r}: {cure}. Nothing was written"


def _known_inside(annotation: Any, change: Any, where: str) -> Any:
    """Check the fields of nested models: directly, optional, or as the values of a dict."""
    if not isinstance(change, Mapping):
        return change
    if get_origin(annotation) in (dict, Mapping):
        inner = get_args(annotation)[-1]
        return {key: _known_inside(inner, one, f"{where}{key}.") for key, one in change.items()}
    models = [
        one for one in _alternatives(annotation) if isinstance(one, type) and issubclass(one, BaseModel)
    ]
    if len(models) == 1 and not issubclass(models[0], RootModel):
        return known(models[0], change, where)
    return change


def _alternatives(annotation: Any) -> Iterable[Any]:
    if get_origin(annotation) in (Union, UnionType):
        return [one for part in get_args(annotation) for one in _alternatives(part)]
    if hasattr(annotation, "__metadata__"):
        return _alternatives(get_args(annotation)[0])
    return (get_origin(annotation) or annotation,)


def _overridden(value: Any, override: Any) -> Any:
    """Lay an override over a default; what it does not mention stays the very value it was."""
    if isinstance(value, RootModel):
        value = value.root
    if isinstance(value, BaseModel) and isinstance(override, Mapping):
        fields = type(value).model_fields
        base = {_input_name(type(value), name): getattr(value, name) for name in fields}
    elif isinstance(value, Mapping) and isinstance(override, Mapping):
        base = dict(value)
    else:
        return override
    return base | {name: _overridden(base.get(name), one) for name, one in override.items()}


def _input_name(model: type[BaseModel], name: str) -> str:
    """The name under which a model takes a field's value."""
    field = model.model_fields.get(name)
    config = model.model_config
    if field is None or config.get("populate_by_name") or config.get("validate_by_name"):
        return name
    return field.validation_alias if isinstance(field.validation_alias, str) else name


class Layers(Generic[S]):
    """The defaults of one settings class, and how documents are laid over them."""

    def __init__(self, model: type[S], defaults: S | Overrides | None = None) -> None:
        if not isinstance(model, type) or not issubclass(model, TenantSettings) or model is TenantSettings:
            raise UsageError(
                f"tenants({model!r}): give a class derived from TenantSettings, the class itself"
            )
        self.model = model
        self.code: S = self._defaults(defaults)

    def _defaults(self, given: S | Overrides | None) -> S:
        if isinstance(given, self.model):
            return rebuilt(given, self.model, frozen)  # type: ignore[no-any-return]
        try:
            if given is None:
                return self.model()
            if not isinstance(given, Mapping):
                raise UsageError(f"defaults={given!r:.80}: give a {self.model.__name__} or a dict of fields")
            return self.model.model_validate(known(self.model, given))
        except ValidationError as error:
            raise UsageError(
                f"the defaults of {self.model.__name__} do not validate: {described(error)}. Every field needs a "
                "default, in the class or in defaults=, for the tenants nobody has configured"
            ) from error

    def settings(self, documents: Sequence[Overrides]) -> S:
        """Lay documents over the defaults, lowest first; raises pydantic's `ValidationError`."""
        overrides: Overrides = reduce(patched, documents, {})
        if not overrides:
            return self.code
        return self.model.model_validate(_overridden(thawed(self.code), overrides))

    def checked(self, documents: Sequence[Overrides]) -> S:
        """Same as `settings`, but raises `DocumentInvalid`, for what is about to be stored."""
        try:
            return self.settings(documents)
        except ValidationError as error:
            raise DocumentInvalid(
                f"{described(error)}. Nothing was written; the settings in force stay"
            ) from error

    def salvaged(self, documents: Sequence[Overrides]) -> S:
        """Lay over the defaults what of the documents validates, field by field; the rest keeps its default."""
        left = [dict(document) for document in documents]
        while any(left):
            try:
                return self.settings(left)
            except ValidationError as error:
                bad = {str(one["loc"][0]) if one["loc"] else "" for one in error.errors(include_url=False)}
            if not any(name in document for document in left for name in bad):
                break  # the model itself objects, not one field
            left = [{name: one for name, one in each.items() if name not in bad} for each in left]
        return self.code

    def patch(self, given: Overrides) -> dict[str, Any]:
        """Check a patch's shape and names and return it as JSON data; raises `DocumentInvalid`."""
        if not isinstance(given, Mapping):
            raise UsageError(
                f"a patch is a dict of fields to change, not {type(given).__name__}: {given!r:.80}"
            )
        try:
            plain = to_jsonable_python(_plain(given))
            json.dumps(plain, ensure_ascii=False, allow_nan=False).encode()
        except (PydanticSerializationError, ValueError) as error:
            raise DocumentInvalid(f"the patch is not JSON data: {error}. Nothing was written") from error
        return known(self.model, plain)


def _plain(value: Any) -> Any:
    """Models in a patch mean the fields that were set on them, not their defaults."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return value


def followed(settings: BaseModel, dotted: str) -> tuple[Any, tuple[str, ...]]:
    """Follow a dotted path through models, dicts and lists; return the value, and the path inside a document.

    Raises `UsageError` naming the part that is missing and the nearest there is.
    """
    if not isinstance(dotted, str):
        raise UsageError(f"path={dotted!r}: give the name of a setting, such as 'limits.rps'")
    value: Any = settings
    spelt = []
    for index, name in enumerate(dotted.split(".")):
        spelt.append(_input_name(type(value), name) if isinstance(value, BaseModel) else name)
        value = _step(value, name, ".".join(dotted.split(".")[: index + 1]))
    return value, tuple(spelt)


def _step(value: Any, name: str, where: str) -> Any:
    if isinstance(value, BaseModel) and (
        name in type(value).model_fields or name in (value.model_extra or ())
    ):
        return getattr(value, name)
    if isinstance(value, Mapping) and name in value:
        return value[name]
    if isinstance(value, tuple) and name.isdecimal() and int(name) < len(value):
        return value[int(name)]
    raise UsageError(_no_such(value, name, where))


def _no_such(value: Any, name: str, where: str) -> str:
    names = type(value).model_fields if isinstance(value, BaseModel) else value
    near = get_close_matches(name, [str(one) for one in names], 1, 0.5) if isinstance(names, Mapping) else []
    return f"there is no setting {where!r}" + (f": did you mean {near[0]!r}?" if near else "")
