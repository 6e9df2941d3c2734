"""What servers answer and redis-py raises, translated once into the errors of `statekit.errors`."""

from __future__ import annotations

import re
from types import TracebackType
from typing import TYPE_CHECKING, Any

from redis import exceptions as theirs

from statekit.errors import (
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreRejected,
    StoreTimeout,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from statekit.store.op import Reply

__all__ = ["aread", "read", "refused", "rejected", "translated"]


_WRAPPING = re.compile(
    r"\AError running script \(call to f_\w+\): @user_script: ?\d+: (?:@user_script: ?\d+: -)?"
)
"""What Redis 6.2 writes in front of an error inside a script; later servers begin with the error's own word."""
_REFUSING = ("READONLY", "MISCONF", "NOREPLICAS")
_OF_A_CLUSTER = {
    theirs.MovedError: "MOVED",
    theirs.AskError: "ASK",
    theirs.TryAgainError: "TRYAGAIN",
    theirs.MasterDownError: "MASTERDOWN",
    theirs.ClusterDownError: "CLUSTERDOWN",
}
"""The first words of what nodes of a cluster answer, which redis-py cuts off; a special case before the general."""


def rejected(error: theirs.ResponseError) -> StoreRejected:
    """Translate what a server answered; the prefix of the text tells, on every version, also inside scripts."""
    text = _WRAPPING.sub("", str(error))
    if isinstance(error, theirs.NoScriptError) or "NOSCRIPT" in text[:80]:
        return StoreRejected("NOSCRIPT: the server has forgotten the script")
    word = next((word for kind, word in _OF_A_CLUSTER.items() if isinstance(error, kind)), None)
    if word is not None:
        return StoreRejected(f"{word} {text}")
    if isinstance(error, theirs.OutOfMemoryError) or "OOM command" in text:
        return StoreFull(
            f"the store is out of memory and refuses writes: {text}; raise maxmemory or free some"
        )
    if isinstance(error, theirs.ReadOnlyError) or any(word in text for word in _REFUSING):
        return StoreReadOnly(f"the store refuses writes: {text}; point statekit at a writable primary")
    if text.startswith("WRONGTYPE"):
        return StoreRejected(f"{text}: another program writes under this namespace; choose another namespace")
    return StoreRejected(text)


def refused(connection: Any, text: str) -> StoreError:
    """Translate an error reply that redis-py has not read; `StoreUnavailable` if it speaks for the whole connection."""
    error = connection._parser.parse_error(text)  # noqa: SLF001 - so that both colours read one text alike
    if isinstance(error, theirs.ConnectionError | theirs.MasterDownError):
        # a server still loading its data, a password changed, a replica that will not answer for its lost primary
        return StoreUnavailable(f"the store cannot be reached: {error}")
    refusal = rejected(error)
    if isinstance(refusal, StoreReadOnly) and "READONLY" in text:
        if hasattr(connection, "connection_pool"):
            return StoreUnavailable(
                "the store cannot be reached: the master the sentinels named is one no more"
            )
        connection.demoted = getattr(connection, "_sock", None)  # its name may mean another server by now
    return refusal


class translated:  # noqa: N801 - used like a function: ``with translated():``
    """Turn what redis-py raises for a whole round into statekit's errors."""

    __slots__ = ()

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, theirs.TimeoutError | TimeoutError):
            raise StoreTimeout(f"the store did not answer in time: {error}") from error
        if isinstance(error, theirs.ResponseError):
            raise rejected(error) from error
        if isinstance(error, (theirs.RedisError, theirs.RedisClusterException, OSError)):
            raise StoreUnavailable(f"the store cannot be reached: {error}") from error


def read(connection: Any) -> Reply:
    """Read one reply; an error the server gave as an answer is returned, a broken connection raised."""
    try:
        return connection.read_response(disable_decoding=True)
    except theirs.ConnectionError:  # a server still loading its data says so in a reply
        raise
    except theirs.ResponseError as error:
        return rejected(error)


async def aread(connection: Any) -> Reply:
    """Same as `read`, for asyncio."""
    try:
        return await connection.read_response(disable_decoding=True)
    except theirs.ConnectionError:
        raise
    except theirs.ResponseError as error:
        return rejected(error)
