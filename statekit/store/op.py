"""Operations: logic that talks to the store without doing I/O.

Rule 1: an operation is a generator. It yields a `Round` (the commands it wants sent together), is sent one
        reply for each, and returns its result. It imports no client, no event loop and no clock.
Rule 2: the commands of one round must not depend on each other: a server may have to run one again
        (a script it has forgotten), after its neighbours.
Rule 3: one ``yield`` is one round trip. `together` lets several operations share them.

A reply that is an error arrives *in place*, as an exception object among the replies, so that one failing
command does not take its neighbours' answers away; `Script` and `command` raise it inside the operation it
belongs to. When the whole round failed (store gone, budget spent) the driver throws `StoreUnavailable` into
the operation, which may catch it and return the answer it has declared for that case.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from importlib.resources import files
from types import GeneratorType
from typing import Any, NamedTuple, TypeAlias, TypeVar, TypeVarTuple, overload

from statekit.errors import StoreError, UsageError

__all__ = ["Arg", "Call", "Op", "Reply", "Round", "Script", "ask", "command", "started", "together"]

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
Ts = TypeVarTuple("Ts")

Arg: TypeAlias = str | bytes | int
Reply: TypeAlias = Any


class Call(NamedTuple):
    """One command of a round: a plain command, or a script with its keys first among the arguments."""

    args: tuple[Arg, ...]
    script: Script | None = None
    keys: int = 0
    read_only: bool = False
    """True if running it twice changes nothing: the driver may then repeat it on a fresh connection."""
    whole: bool = False
    """Send the script's text instead of its digest: the server has forgotten it."""
    waits: bool = False
    """It asks about the calls before it in its round, and its reply may take a while (see `replicas`)."""


Round: TypeAlias = tuple[Call, ...]
Op: TypeAlias = Generator[Round, Sequence[Reply], T]


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, known by the digest of its text, run with EVALSHA and sent whole when the server asks."""

    name: str
    source: str
    read_only: bool = False
    sha: str = field(init=False)
    sharded: bool = field(init=False)
    """Whether it publishes to the shard of its keys, told by one argument more that there are shards."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sharded", "'SPUBLISH'" in self.source)
        object.__setattr__(self, "sha", sha1(self.source.encode(), usedforsecurity=False).hexdigest())

    @classmethod
    def load(cls, package: str, name: str, *, read_only: bool = False) -> Script:
        """Read ``<name>.lua`` that lies beside the code of `package`; once, at import."""
        source = files(package).joinpath(f"{name}.lua").read_text(encoding="utf-8")
        return cls(f"{package.rpartition('.')[2]}.{name}", source, read_only)

    def call(self, keys: Sequence[str], args: Sequence[Arg] = ()) -> Call:
        """Describe one run, for an operation that sends several commands in one round."""
        return Call((*keys, *args), self, len(keys), self.read_only)

    def __call__(self, keys: Sequence[str], args: Sequence[Arg] = ()) -> Op[Reply]:
        """Run alone in a round; ``reply = yield from SCRIPT(keys, args)``."""
        return ask(self.call(keys, args))


def command(*args: Arg, read_only: bool = False) -> Op[Reply]:
    """Send one plain command alone in a round; use it with ``yield from`` to get its reply."""
    return ask(Call(args, read_only=read_only))


def ask(call: Call) -> Op[Reply]:
    """Send one call, return its reply, raise it if it is an error."""
    (reply,) = yield (call,)
    if isinstance(reply, StoreError):
        raise reply
    return reply


def started(op: Op[T1]) -> Op[T1]:
    """Return an operation that is about to be run; raises `UsageError` for what is none, or has been run."""
    if type(op) is not GeneratorType and not isinstance(op, Generator):
        raise UsageError(f"{op!r} is no operation: give what a gerund returns, such as limiter.hitting(key)")
    if getattr(op, "gi_frame", op) is None:
        raise UsageError("this operation has been run already: make a new one for each run")
    return op


@overload
def together(op: Op[T1], /) -> Op[tuple[T1]]: ...
@overload
def together(op1: Op[T1], op2: Op[T2], /) -> Op[tuple[T1, T2]]: ...
@overload
def together(op1: Op[T1], op2: Op[T2], op3: Op[T3], /) -> Op[tuple[T1, T2, T3]]: ...
@overload
def together(*ops: Op[Any]) -> Op[tuple[Any, ...]]: ...
def together(*ops: Op[Any]) -> Op[tuple[Any, ...]]:
    """Step several operations at once: what each yields travels in one shared round trip.

    Returns their results in order. An operation that fails does not stop the others: all run to their end,
    then the first failure is raised. The round trips are those of the longest operation, not the sum.
    """
    ends: list[Any] = [None] * len(ops)
    under_way: list[_Waiting] = []
    for index, op in enumerate(ops):
        _resume(started(op).send, None, index, op, under_way, ends)
    while under_way:
        waiting, under_way = under_way, []
        try:
            replies = yield tuple([call for _, _, calls in waiting for call in calls])
        except StoreError as error:
            for index, op, _ in waiting:
                _resume(op.throw, error, index, op, under_way, ends)
        else:
            at = 0
            for index, op, calls in waiting:
                start, at = at, at + len(calls)
                _resume(op.send, replies[start:at], index, op, under_way, ends)
    for end in ends:
        if type(end) is _Failure:
            raise end.error
    return tuple(ends)


_Waiting: TypeAlias = tuple[int, Op[Any], Round]
"""Which operation, the operation, and what it waits for."""


class _Failure(NamedTuple):
    """The end of an operation that failed; raised once its neighbours are done."""

    error: Exception


def _resume(
    how: Callable[[Any], Round],
    given: Any,
    index: int,
    op: Op[Any],
    under_way: list[_Waiting],
    ends: list[Any],
) -> None:
    """Hand an operation what it waits for, replies or an error; note what it wants next, or how it ended."""
    try:
        under_way.append((index, op, how(given)))
    except StopIteration as stop:
        ends[index] = stop.value
    except Exception as error:  # noqa: BLE001 - kept, so that its neighbours run to their end
        ends[index] = _Failure(error)
