"""The base of an application's settings: a pydantic model, frozen all the way down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_serializer, model_validator

from statekit.tenants.containers import refused
from statekit.tenants.frozen import declared, frozen, plain_class, rebuilt

__all__ = ["TenantSettings"]


class TenantSettings(BaseModel):
    """Subclass this to declare what can be set for a tenant; instances never change, however deep one reaches.

    Declare fields as for any pydantic model, nested models included; these need not be declared frozen. After
    validation a list is a tuple (that still equals the list), a dict refuses changes, a set is a frozenset and
    a nested model refuses assignment. Reading an attribute costs what it costs on a plain model. Fields of a
    stored document that the class does not know are ignored: a newer release may have written them.

    Changing anything raises `SettingsFrozen` at the guilty line. Out of reach of any check, and so of this
    promise, are ``object.__setattr__``, writes into ``vars(settings)`` and private attributes.

    >>> class Limits(BaseModel):
    ...     rps: int = 10
    >>> class Settings(TenantSettings):
    ...     plan: str = "free"
    ...     limits: Limits = Limits()
    ...     features: list[str] = []
    >>> settings = Settings(features=["beta"])
    >>> settings.limits.rps, settings.features
    (10, ('beta',))
    >>> settings.limits.rps = 99
    Traceback (most recent call last):
    statekit.errors.SettingsFrozen: Limits.rps is frozen, because every request of this process shares it: ...
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    @model_validator(mode="after")
    def _freeze(self) -> Self:
        name = plain_class(type(self)).__name__
        vars(self).update({key: frozen(value, f"{name}.{key}") for key, value in vars(self).items()})
        if self.model_extra:
            object.__setattr__(self, "__pydantic_extra__", frozen(self.model_extra, name))
        return self

    # No annotations on purpose: with one, pydantic would replace the JSON schema of what is serialised.
    _serialise_plain = model_serializer(mode="wrap")(lambda self, handler: handler(declared(self)))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy with some fields replaced, as pydantic does, without validation; the copy is frozen too."""
        copy = super().model_copy(update=update, deep=deep)
        return rebuilt(copy, type(self), frozen)  # type: ignore[no-any-return]

    def __setattr__(self, name: str, value: Any) -> None:
        raise refused(f"{type(self).__name__}.{name}")

    def __delattr__(self, name: str) -> None:
        raise refused(f"{type(self).__name__}.{name}")
