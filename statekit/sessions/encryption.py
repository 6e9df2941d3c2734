"""Encryption at rest: the values of sessions, sealed so that a copy of the store does not show them.

AES-256-GCM with a key of its own for each session: HKDF-SHA256 (RFC 5869) of the configured key and the session's
id. The id is in the visitor's cookie and nowhere in the store, so neither the store alone nor the store and the
configured keys together open a value. A fresh random nonce of 96 bits a value; a key encrypts the values of one session
only, so nonces do not run out. The names of record and key are authenticated with the value: it opens in its own place and
nowhere else, in no other session and no other namespace.

    {"~e":"<id of the key, 8 hexadecimal digits>.<base64 of nonce, ciphertext and tag>"}

Not hidden: names of keys, lengths of values, who is signed in, when. Not authenticated: the same.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from hmac import digest
from os import urandom
from typing import TYPE_CHECKING, Literal

from statekit.errors import CorruptValue, UsageError
from statekit.sessions.record import SEALED

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["Encryption", "Vault"]

SALT = b"statekit session values"
NONCE = 12
DAMAGED = "it is encrypted, and was changed, moved from its place, or damaged"
_HEX = re.compile(r"[0-9A-Fa-f]{64}\Z")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{43}=?\Z")
_HEAD = re.compile(re.escape(SEALED) + rb"([0-9a-f]{8})\.")
_END = b'"}'


class Encryption:
    """How the values of sessions are encrypted: ``kit.sessions(encryption=Encryption([key]))``.

    `keys`: 32 random bytes each, as bytes, as 64 hexadecimal digits or in base64, from `new_key` or any secret store.
    The first encrypts, all decrypt. `plaintext`: what becomes of values that are not encrypted. "read", the default:
    they are read, and encrypted when they are written next. "refuse": they are `CorruptValue`. "write": values are
    still written so, while encrypted ones are read; the first step of switching on under load.

    Raises `UsageError`, which never shows a key, for what is none; and where ``cryptography`` is not installed
    (``pip install 'statekit[encryption]'``). A value that cannot be opened, because its key is missing, or it was
    changed or moved, is `CorruptValue` when it is read, and harms no other key.

    >>> from statekit import StateKit
    >>> sessions = StateKit.in_memory().sessions(encryption=Encryption([Encryption.new_key()]))
    >>> s = sessions.open(None)
    >>> s["card"] = "4242"
    >>> sessions.save(s)
    <SaveOutcome.CREATED: 'created'>
    >>> sessions.open(s.id)["card"]
    '4242'
    """

    def __init__(
        self, keys: Sequence[str | bytes], *, plaintext: Literal["read", "refuse", "write"] = "read"
    ) -> None:
        if plaintext not in ("read", "refuse", "write"):
            raise UsageError(f"plaintext={plaintext!r}: use 'read', 'refuse' or 'write'")
        if isinstance(keys, str | bytes) or not isinstance(keys, Sequence) or not keys:
            raise UsageError("keys is no list of keys: give keys=[new, old, …], the first encrypts")
        self._derive_from = {_name(key): _extracted(key) for key in map(_key, range(len(keys)), keys)}
        if len(self._derive_from) < len(keys):
            raise UsageError("two of the keys are the same: give each once")
        self.plaintext = plaintext
        self.encrypts_with = next(iter(self._derive_from))
        """The public id of the first key."""
        self._cipher = _aes_gcm()

    @staticmethod
    def new_key() -> str:
        """A new key, as text: 256 random bits in base64. Keep it where passwords are kept."""
        return urlsafe_b64encode(urandom(32)).decode()

    def vault(self, name: str, id_: str) -> Vault:
        """What seals and opens the values of one session; `name` is that of its record in the store."""
        return Vault(self, name, id_)

    def cipher(self, key: str, id_: str) -> AESGCM | None:
        """The cipher of one session under the configured key of that name; None if there is no such key."""
        derive_from = self._derive_from.get(key)
        if derive_from is None:
            return None
        return self._cipher(digest(derive_from, id_.encode() + b"\x01", "sha256"))

    def __repr__(self) -> str:
        return f"Encryption(keys={list(self._derive_from)}, plaintext={self.plaintext!r})"


class Vault:
    """The values of one session, sealed and opened; each key is derived once."""

    __slots__ = ("_ciphers", "_encryption", "_id", "_name")

    def __init__(self, encryption: Encryption, name: str, id_: str) -> None:
        self._encryption = encryption
        self._name = name.encode()
        self._id = id_
        self._ciphers: dict[str, AESGCM | None] = {}

    def seal(self, key: str, raw: bytes) -> bytes:
        """Encrypt an encoded value."""
        encryption, nonce = self._encryption, urandom(NONCE)
        cipher = None if encryption.plaintext == "write" else self._cipher(encryption.encrypts_with)
        if cipher is None:
            return raw
        sealed = b64encode(nonce + cipher.encrypt(nonce, raw, self._place(key)))
        return b"%b%b.%b%b" % (SEALED, encryption.encrypts_with.encode(), sealed, _END)

    def open(self, key: str, raw: bytes) -> bytes:
        """Decrypt what `seal` made; raises `CorruptValue` if that cannot be done."""
        if not raw.startswith(SEALED):
            if self._encryption.plaintext == "refuse":
                raise CorruptValue("it is not encrypted, and plaintext='refuse' was chosen")
            return raw
        head = _HEAD.match(raw)
        if head is None or not raw.endswith(_END):
            raise CorruptValue(DAMAGED)
        key_id, box = head[1].decode(), raw[head.end() : -len(_END)]
        cipher = self._cipher(key_id)
        if cipher is None:
            raise CorruptValue(f"it is encrypted with the key {key_id}, which is not among those given")
        try:
            sealed = b64decode(box)
            plain = cipher.decrypt(sealed[:NONCE], sealed[NONCE:], self._place(key))
        except Exception as error:
            raise CorruptValue(DAMAGED) from error
        if b64encode(sealed) != box:  # one spelling a value
            raise CorruptValue(DAMAGED)
        return plain

    def _cipher(self, key: str) -> AESGCM | None:
        if key not in self._ciphers:
            self._ciphers[key] = self._encryption.cipher(key, self._id)
        return self._ciphers[key]

    def _place(self, key: str) -> bytes:
        return self._name + b"\n" + key.encode("utf-8", "surrogatepass")


def _key(at: int, given: object) -> bytes:
    """The 32 bytes of a key; no message shows any of it."""
    if isinstance(given, str) and _HEX.match(given):
        return _random(at, bytes.fromhex(given))
    if isinstance(given, str) and _BASE64.match(given):
        return _random(at, urlsafe_b64decode(given.replace("+", "-").replace("/", "_").rstrip("=") + "="))
    if isinstance(given, bytes) and len(given) == 32:
        return _random(at, given)
    raise UsageError(
        f"keys[{at}] is no key: give 32 random bytes, as bytes, as 64 hexadecimal digits, or in base64; "
        "`statekit sessions new-key` makes one"
    )


def _random(at: int, key: bytes) -> bytes:
    """Let pass only what can have been drawn at random: a passphrase or a repeated byte never is."""
    if len(set(key)) < 16 or all(32 <= byte < 127 for byte in key):
        raise UsageError(
            f"keys[{at}] is not random, so it could be guessed: `statekit sessions new-key` makes a key"
        )
    return key


def _name(key: bytes) -> str:
    """The public id of a key: tells which one a value was encrypted with, and nothing else."""
    return sha256(b"statekit key id" + key).hexdigest()[:8]


def _extracted(key: bytes) -> bytes:
    return digest(SALT, key, "sha256")


def _aes_gcm() -> type[AESGCM]:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as missing:
        raise UsageError("encryption needs cryptography: pip install 'statekit[encryption]'") from missing
    return AESGCM
