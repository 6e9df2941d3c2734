"""Keys: every name statekit writes into a store is spelt here and nowhere else.

    sk1:<namespace>:<kind>:{<tag>}[:<suffix>]

Rule 1: ``sk1`` is the version of the wire format; another release that changes what lies under a key changes it.
Rule 2: what a script touches together shares ``{<tag>}``, hence a slot of a cluster.
Rule 3: `encoded` is injective: two different inputs never make the same key, whatever they contain.
"""

from __future__ import annotations

import hashlib
import re

from statekit.errors import UsageError

__all__ = ["FORMAT", "Keys", "encoded", "is_sharded"]

FORMAT = "sk1"
SHARDED = frozenset({"replica", "pool"})
"""Kinds whose channel lies in the slot of the keys its publishers write; what others publish comes from many slots."""
LONGEST_PLAIN = 160
"""Characters of an encoded part that are kept as they are; a longer one is replaced by its digest."""

_PLAIN = re.compile(r"[A-Za-z0-9_.@+/=,;!*'()$&?#\[\]^|<> -]*\Z")
_WRITTEN = tuple(chr(byte) if _PLAIN.match(chr(byte)) else f"%{byte:02X}" for byte in range(256))
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")


def encoded(part: str, name: str = "key") -> str:
    """Write any text as a part of a key: printable, without ``: { } % ~``, at most 160 characters.

    Other characters become ``%XX`` of their UTF-8 bytes, the empty text becomes ``%``, and a text that comes
    out longer than 160 characters becomes ``~`` and the BLAKE2b-256 of what it was. Two texts never meet.
    """
    if not isinstance(part, str):
        raise UsageError(
            f"{name}={part!r} is {type(part).__name__}, not text: pass str({name}) if that is meant"
        )
    if not _PLAIN.match(part):
        part = "".join(map(_WRITTEN.__getitem__, part.encode("utf-8", "surrogatepass")))
    if len(part) > LONGEST_PLAIN:
        return "~" + hashlib.blake2b(part.encode(), digest_size=32).hexdigest()
    return part or "%"


def is_sharded(channel: str) -> bool:
    """Whether what is published to a channel may stay in one shard of a cluster.

    >>> is_sharded("sk1:atlas:replica:{flags}:news"), is_sharded("sk1:atlas:limit:{freed}")
    (True, False)
    """
    return not SHARDED.isdisjoint(channel.split(":", 3)[2:3])


class Keys:
    """The keys of one namespace.

    >>> Keys("atlas").of("limit", encoded("login"), encoded("203.0.113.7"))
    'sk1:atlas:limit:{login:203.0.113.7}'
    """

    __slots__ = ("namespace", "prefix", "slotted")

    def __init__(self, namespace: str) -> None:
        if not isinstance(namespace, str) or not _NAMESPACE.match(namespace):
            raise UsageError(
                f"namespace={namespace!r}: use 1 to 64 of A-Z a-z 0-9 _ . - and begin with a letter or digit"
            )
        self.namespace = namespace
        self.prefix = f"{FORMAT}:{namespace}:"
        self.slotted = False
        """Whether the store is a cluster, where only keys of one slot can be touched together."""

    def of(self, kind: str, *tag: str, suffix: str = "") -> str:
        """Spell a key: `tag` parts are already `encoded` and choose the slot; `suffix` tells siblings apart."""
        return f"{self.prefix}{kind}:{{{':'.join(tag)}}}{':' + suffix if suffix else ''}"
