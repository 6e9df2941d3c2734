"""Seals: what one session's values need to be encrypted under its id, and to be read again. No cipher lives here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from statekit.errors import CorruptValue

if TYPE_CHECKING:
    from statekit.sessions.encryption import Vault

__all__ = ["Seals"]


class Seals:
    """The vaults of one session: of the id it was read under, and of the one it will have."""

    __slots__ = ("_decrypted", "_made", "_vaults", "under")

    def __init__(self, vaults: Callable[[str], Vault]) -> None:
        self._vaults = vaults
        self._made: dict[str, Vault] = {}
        self._decrypted: dict[str, bytes] = {}
        self.under = ""
        """The id that what is stored was encrypted under."""

    def plain(self, key: str, raw: bytes) -> bytes:
        """What is stored, decrypted once; raises `CorruptValue` if that cannot be done."""
        known = self._decrypted.get(key)
        if known is None:
            known = self._decrypted[key] = self._vault(self.under).open(key, raw)
        return known

    def known(self, key: str, raw: bytes | None) -> bytes | None:
        """Same as `plain`; None for what is not there, or cannot be opened."""
        try:
            return None if raw is None else self.plain(key, raw)
        except CorruptValue:
            return None

    def sealed(self, content: Mapping[str, bytes], id_: str) -> dict[str, bytes]:
        """Encoded values as they are to lie in the store under an id."""
        vault = self._vault(id_)
        return {key: vault.seal(key, raw) for key, raw in content.items()}

    def resealed(self, fields: Mapping[str, bytes], id_: str) -> dict[str, bytes]:
        """What lies in the store, for another id. What cannot be opened comes along as it is."""
        old, new = self._vault(self.under), self._vault(id_)
        return {key: _moved(old, new, key, raw) for key, raw in fields.items()}

    def written(self, id_: str) -> None:
        """Take note that all that is stored was encrypted under this id."""
        self.under = id_
        self._decrypted.clear()

    def _vault(self, id_: str) -> Vault:
        found = self._made.get(id_)
        if found is None:
            found = self._made[id_] = self._vaults(id_)
        return found


def _moved(old: Vault, new: Vault, key: str, raw: bytes) -> bytes:
    try:
        return new.seal(key, old.open(key, raw))
    except CorruptValue:
        return raw
