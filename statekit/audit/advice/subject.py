"""What the advice is about: a verdict, and what its sentences and examples keep asking of it."""

from __future__ import annotations

from functools import cached_property

from statekit.audit.advice.spelling import expression, plain, shown
from statekit.audit.facts import Value
from statekit.audit.judge import Verdict
from statekit.audit.model import Category, Site
from statekit.audit.natures import Nature
from statekit.audit.states import State
from statekit.audit.words import words_of

__all__ = ["Subject"]

VAGUE = {
    "client",
    "session",
    "engine",
    "pool",
    "cache",
    "lock",
    "queue",
    "state",
    "data",
    "instance",
    "config",
    "settings",
    "db",
    "conn",
    "redis",
    "executor",
}
PLACES = {
    "__init__",
    "app",
    "main",
    "server",
    "utils",
    "api",
    "core",
    "common",
    "base",
    "views",
    "routes",
    "client",
}
CALLERS = {
    "ip",
    "addr",
    "address",
    "host",
    "user",
    "username",
    "email",
    "phone",
    "token",
    "account",
    "tenant",
    "sid",
    "key",
}
KEYED = {"[]=", "del", "+=", "setdefault", "pop", "move_to_end"}
MEMBERS = {"add", "discard", "remove"}
HANDED = {"append", "appendleft", "put", "put_nowait", "add"}
ALIVE = {
    Nature.CLIENT,
    Nature.EXECUTOR,
    Nature.SCHEDULER,
    Nature.LOCK,
    Nature.QUEUE,
    Nature.THREAD,
    Nature.TASK,
    Nature.PROCESS,
}


class Subject:
    """One piece of state, under the names its project gives it."""

    def __init__(self, verdict: Verdict, sites: tuple[Site, ...], started: Site | None = None) -> None:
        if verdict.category is None:
            raise ValueError(f"{verdict.state.qualified} was cleared: {verdict.reason}")
        self.verdict = verdict
        self.category: Category = verdict.category
        self.sites = sites
        self.started = started
        """Where a request starts it, if it is a thread or task and one does."""

    @property
    def state(self) -> State:
        return self.verdict.state

    @property
    def name(self) -> str:
        """For a sentence: with its class, without its module."""
        state = self.state
        owner = (
            state.owner.rpartition(".")[2]
            if state.shape in {"attribute", "class_attribute", "decorator"}
            else ""
        )
        return shown(f"{owner}.{state.name}" if owner else state.name)

    @cached_property
    def words(self) -> list[str]:
        """Of the bound name, in lower case; of a thread or task, those of what it runs."""
        return words_of(self.runs or self.state.name) or words_of(self.state.name) or ["state"]

    @property
    def runs(self) -> str:
        """The bare name of what a thread or task runs, '' for anything else and where it cannot be told."""
        ran = self.state.annotation.removesuffix("()") if self.state.shape == "spawn" else ""
        return ran.replace("[]", "").replace("()", "").rpartition(".")[2]

    @property
    def kebab(self) -> str:
        """What it is called in the store: its name, with its class or file where the name says little."""
        if len(self.words) > 1 or self.words[0] not in VAGUE:
            return "-".join(self.words)
        parts = self.state.module.path.removesuffix(".py").split("/")
        home = self.state.owner.rpartition(".")[2] or next(
            (one for one in reversed(parts) if one not in PLACES), ""
        )
        around = [word for word in words_of(home) if word != self.words[0]]
        return "-".join([*around[-3:], *self.words])

    @property
    def snake(self) -> str:
        """What it is called in code."""
        name = plain("_".join(self.words))
        module = self.state.module
        taken = name != self.state.name and (
            name in module.functions or name in module.classes or name in module.vars
        )
        return f"shared_{name}" if taken else name

    @property
    def shape(self) -> str:
        """Where it hides, as the rules tell it."""
        shape = self.state.shape
        if shape not in {"container", "instance"}:
            return shape
        if self.state.holds or self.natures & ALIVE:
            return "instance"
        outright = {change.write.op for change in self.verdict.changes if not change.attribute}
        if outright and outright <= {"="}:
            return "rebind"
        if self.natures & {Nature.CONTAINER, Nature.CACHE, Nature.COUNTER}:
            return "container"
        return "rebind" if outright and outright <= {"=", "+="} else "instance"

    @property
    def natures(self) -> frozenset[Nature]:
        return self.verdict.natures

    @cached_property
    def keys(self) -> list[str]:
        """By what it is kept, as far as that can be spelt; what is the same each time is not among them."""
        writes = [change.write for change in self.verdict.changes]
        keyed = [one.key for one in writes if one.op in KEYED]
        members = [one.key for one in writes if one.op in MEMBERS and not one.target.endswith("[]")]
        spelt = filter(None, map(expression, [*keyed, *members]))
        return list(dict.fromkeys(key for key in spelt if _varies(key)))

    @cached_property
    def caller(self) -> str:
        """Who is counted: the key, or what its name says is one, where things are kept per something unspelt."""
        if self.keys:
            return self.keys[0]
        for change in self.verdict.changes:
            facts = change.function.facts
            if "[]" in change.write.target + change.write.op:
                near = (*(name for name, _ in facts.params), *facts.reads)
                named = (
                    one
                    for one in map(expression, near)
                    if one and set(words_of(one.rpartition(".")[2])) & CALLERS
                )
                return next((one for one in named if one != self.state.name), "client_ip")
        return ""

    @property
    def members(self) -> bool:
        """Whether it is a set of things, rather than things by a key."""
        writes = [change.write for change in self.verdict.changes]
        added = any(one.op == "add" and not one.target.endswith("[]") for one in writes)
        return added and not any(one.op in KEYED for one in writes)

    @cached_property
    def item(self) -> str:
        """What is put in, where that is a plain name."""
        writes = (change.write for change in self.verdict.changes)
        spelt = (expression(one.key) for one in writes if one.op in HANDED)
        return next(
            (one for one in spelt if one and one.partition(".")[0] not in {"self", "cls", "None"}), ""
        )

    @cached_property
    def fields(self) -> list[str]:
        """Attributes and constant keys that are changed: what the state consists of."""
        found = []
        for change in self.verdict.changes:
            key = change.write.key
            found.append(change.attribute or (key.strip("'\"") if key[:1] in {"'", '"'} else ""))
        return list(dict.fromkeys(plain(one) for one in found if one))

    @cached_property
    def ops(self) -> list[str]:
        """How it is changed, as a reader says it."""
        said = {"=": "set", "[]=": "item set", "+=": "counted up", "del": "deleted"}
        return list(dict.fromkeys(said.get(c.write.op, f".{c.write.op}()") for c in self.verdict.changes))

    @property
    def made_by(self) -> Value | None:
        """The call it was made by, where there is one."""
        calls = [value for _, value in self.state.values if value.kind == "call"]
        nested = [part for _, value in self.state.values if value.kind == "either" for part in value.parts]
        return next(iter([*calls, *(one for one in nested if one.kind == "call")]), None)

    @property
    def is_async(self) -> bool:
        """Whether those who change it are coroutines."""
        changing = [change.function for change in self.verdict.changes]
        if self.state.function:
            changing.append(self.state.function)
        return bool(changing) and changing[0].facts.is_async

    def has(self, *words: str) -> bool:
        """Whether the bound name contains one of the words."""
        return bool(set(self.words) & set(words))


def _varies(key: str) -> bool:
    """Whether a key is one of many: no literal, no constant, not the object itself."""
    return (
        key[0] not in "'\""
        and not key.isdigit()
        and key not in {"self", "cls"}
        and not key.rpartition(".")[2].isupper()
    )
