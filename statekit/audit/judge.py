"""The decision list: which candidates are state, which are cleared, and how sure that is.

In order: what cannot be state by nature; what nobody writes; what is only written at import or start-up; what is
filled once and never differs; what remains is state, and is sorted by what it is for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from statekit.audit.catalogue import Catalogue
from statekit.audit.facts import Value
from statekit.audit.model import Category, Confidence
from statekit.audit.natures import Nature, Natures
from statekit.audit.project import ClassIn, FunctionIn, Project
from statekit.audit.purity import Purity
from statekit.audit.reach import Phase, Reach
from statekit.audit.reading.chains import root_of
from statekit.audit.states import BUILDERS, Change, State, States
from statekit.audit.words import hinted, words_of

__all__ = ["Judge", "Verdict"]

REMOVING = {"del", "pop", "popitem", "popleft", "clear", "remove", "discard", "cache_clear"}
ASKING = ("request", "user", "tenant", "session", "token", "client", "ip", "addr", "email", "account", "org", "sid", "key", "id", "uuid")
"""Words of keys that come with a request."""
SHARED = re.compile(r"redis|valkey|memcache", re.IGNORECASE)
SAYING = {"warn", "warning", "info", "debug", "error", "log", "exception", "print", "echo"}
KEYED = (
    ({"session", "sid", "conversation", "chat", "nonce", "cookies"}, Category.SESSION_STORE, 1.3),
    ({"user", "token", "state"}, Category.SESSION_STORE, 0.6),
    ({"ip", "addr", "remote", "host"}, Category.RATE_LIMITER, 0.6),
    ({"tenant", "org", "organization", "workspace", "site"}, Category.TENANT_CONFIG, 0.5),
    ({"job", "task", "run", "pid", "process"}, Category.BACKGROUND_WORKER, 0.6),
    ({"websocket", "ws", "client", "room", "connection", "socket", "channel"}, Category.CONNECTION_MANAGER, 0.6),
)
"""What keys say about what is kept under them."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided about one candidate. Cleared where `category` is None."""

    state: State
    category: Category | None
    confidence: Confidence = Confidence.LOW
    reason: str = ""
    """The step of the decision list that decided."""
    changes: tuple[Change, ...] = ()
    natures: frozenset[Nature] = frozenset()
    notes: tuple[str, ...] = field(default=())


class Judge:
    """Decides about candidates one by one."""

    def __init__(self, project: Project, states: States, natures: Natures, purity: Purity, reach: Reach, catalogue: Catalogue) -> None:
        self.project = project
        self.states = states
        self.natures = natures
        self.purity = purity
        self.reach = reach
        self.catalogue = catalogue

    def verdict(self, state: State) -> Verdict:
        if state.shape == "decorator":
            return self._decorated(state)
        if state.shape == "spawn":
            return self._spawned(state)
        natures = self._natures(state)
        cleared = self._by_nature(state, natures)
        if cleared:
            return self._clear(state, cleared, natures)
        return self._alive(state, natures) or self._written(state, natures)

    def _natures(self, state: State) -> frozenset[Nature]:
        found: set[Nature] = set()
        for function, value in state.values:
            found |= self.natures.of(function, value)
        if state.holds:
            found.add(Nature.OBJECT)
        return frozenset(found)

    def _clear(self, state: State, reason: str, natures: frozenset[Nature] = frozenset()) -> Verdict:
        return Verdict(state, None, Confidence.LOW, reason, (), natures)

    def _found(self, state: State, category: Category, confidence: Confidence, reason: str, natures: frozenset[Nature], changes: list[Change] | None = None) -> Verdict:
        run = changes if changes is not None else [c for c in state.changes if c.at_run_time]
        return Verdict(state, category, confidence, reason, tuple(run), natures)

    # -- what cannot be state, by nature ---------------------------------------------------------------------------

    def _by_nature(self, state: State, natures: frozenset[Nature]) -> str:
        if natures & {Nature.LOCAL}:
            return "context local"
        if natures & {Nature.METRIC}:
            return "metrics of the process"
        if natures <= {Nature.HARMLESS, Nature.NONE} and Nature.HARMLESS in natures and not any(c.at_run_time for c in state.changes):
            return "harmless"
        if state.name in {"__all__", "__slots__", "urlpatterns", "__version__", "logger", "log", "__path__", "__doc__", "__name__"}:
            return "constant"
        if state.shape == "class_attribute" and self._describes(state):
            return "model default"
        return ""

    def _describes(self, state: State) -> bool:
        owner = state.module.classes.get(state.owner)
        if owner is None:
            return False
        shared = any(c.write.target.startswith(("cls.", owner.name + ".")) for c in state.changes)
        if shared:
            return False
        dataclass_like = any(one.text.rpartition(".")[2] in {"dataclass", "define", "s", "attrs", "frozen", "mutable"} for one in owner.facts.decorators)
        if dataclass_like and owner in self.states.lasting:
            return False
        return dataclass_like or any(base in self.catalogue.model_bases or base.rpartition(".")[2] in self.catalogue.model_bases for base in owner.outside)

    # -- what is alive -------------------------------------------------------------------------------------------------

    def _alive(self, state: State, natures: frozenset[Nature]) -> Verdict | None:
        sure = Confidence.HIGH if state.shape in {"container", "class_attribute", "app"} else Confidence.MEDIUM
        if self._test_only(state):
            return self._clear(state, "test or command only", natures)
        if Nature.LOCK in natures:
            return self._lock(state, natures)
        if Nature.LIMITER in natures:
            return self._found(state, Category.RATE_LIMITER, sure, "a limiter of this process", natures)
        if Nature.SCHEDULER in natures:
            return self._found(state, Category.BACKGROUND_WORKER, Confidence.HIGH, "a scheduler in each process", natures)
        if Nature.EXECUTOR in natures:
            return self._found(state, Category.BACKGROUND_WORKER, sure, "an executor of this process", natures)
        if Nature.CLIENT in natures and not self._of_a_request(state):
            return self._found(state, Category.CLIENT_POOL, sure, "a client with connections of its own", natures)
        if Nature.QUEUE in natures and not self._of_a_request(state):
            return self._found(state, Category.EVENT_BUS, sure, "a queue only this process sees", natures)
        if natures & {Nature.THREAD, Nature.TASK, Nature.PROCESS} and not self._of_a_request(state):
            return self._found(state, Category.BACKGROUND_WORKER, Confidence.MEDIUM, "work that goes on in this process", natures)
        if Nature.SIGNAL in natures and any(chain == f"{state.name}.send" for function in state.readers for chain in function.facts.calls):
            return self._found(state, Category.EVENT_BUS, Confidence.MEDIUM, "heard in this process only", natures)
        return self._holds_client(state, natures)

    def _holds_client(self, state: State, natures: frozenset[Nature]) -> Verdict | None:
        """An object that keeps a client in an attribute; or a name that says client, set to something unknown."""
        if state.holds and state.shape in {"container", "instance", "app"} and not any(c.attribute and c.at_run_time for c in state.changes):
            if self._keeps_client(state.holds):
                return self._found(state, Category.CLIENT_POOL, Confidence.MEDIUM, "an object that keeps a client", natures)
        if state.holds and state.shape in {"container", "instance"}:
            for method in (one for owner in state.holds.line() for one in owner.methods.values()):
                kept = any(one.text.rpartition(".")[2] in self.catalogue.once_decorators for one in method.facts.decorators)
                outside = self.purity.outside_of(method) if kept else ""
                if outside and self._reads_data(outside):
                    return self._found(state, Category.MEMO_CACHE, Confidence.MEDIUM, f"remembers what {outside} said", natures)
        named = words_of(state.name)[-1:] and words_of(state.name)[-1] in {"client", "clients", "engine", "pool", "redis", "driver", "producer"}
        rebound = any(c.write.op in {"=", "[]="} and not c.attribute for c in state.changes)
        if named and rebound and natures <= {Nature.NONE, Nature.UNKNOWN} and Nature.UNKNOWN in natures and state.shape in {"container", "class_attribute", "app"}:
            return self._found(state, Category.CLIENT_POOL, Confidence.MEDIUM, "set to a client", natures)
        return None

    def _keeps_client(self, owner: ClassIn) -> bool:
        """Whether objects of a class have a client among their attributes."""
        writes = (write for one in owner.line() for _, found in self.states.assigned_of(one) for write in found)
        return any(Nature.CLIENT in self.natures.of(function, write.value) for function, write in writes)

    def _of_a_request(self, state: State) -> bool:
        """Attributes of objects that live for a request, and variables of such functions."""
        if state.shape != "attribute":
            return False
        owner = state.module.classes.get(state.owner)
        return owner is None or owner not in self.states.lasting

    def _test_only(self, state: State) -> bool:
        return bool(state.changes) and all(c.phase is Phase.COMMAND for c in state.changes)

    def _lock(self, state: State, natures: frozenset[Nature]) -> Verdict:
        guarded = []
        for function in state.readers or state.module.functions.values():
            for chain, calls, targets in function.facts.guards:
                if words_of(state.name) == words_of(root_last(chain)):
                    effect = self.purity.effect_in(function, calls)
                    if not effect and any("Semaphore" in value.text or "Limiter" in value.text for _, value in state.values):
                        effect = next((one for one in calls if "log" not in one), "")  # so many at once, whatever it is
                    if effect:
                        guarded.append(effect)
        if guarded:
            return self._found(state, Category.LOCK, Confidence.MEDIUM, f"guards {guarded[0]}, which other processes do too", natures)
        return self._clear(state, "guards local state only", natures)

    # -- what is written -----------------------------------------------------------------------------------------------

    def _written(self, state: State, natures: frozenset[Nature]) -> Verdict:
        run = [c for c in state.changes if c.at_run_time and not self._registers(c) and not self._builds(state, c) and not self._sets(c)]
        if state.holds and state.shape != "decorator":
            run = [c for c in run if c.attribute or not self._lazy(c)] or run
        if not state.changes:
            return self._clear(state, "constant", natures)
        if not run:
            return self._clear(state, "set at start-up", natures)
        if natures & {Nature.BACKEND}:
            return self._clear(state, "shared backend", natures)
        if self._collects(state, run):
            return self._clear(state, "registry", natures)
        if self._about_itself(state):
            return self._clear(state, "telemetry of the process", natures)
        if all(self._follows(c) for c in run):
            return self._clear(state, "re-synchronises itself", natures)
        if self._warns_once(state, run):
            return self._clear(state, "warn once", natures)
        if state.under[:1] == ("__main__",) and all(c.attribute for c in run):
            return self._clear(state, "made by a command", natures)
        if state.holds and all(not c.attribute and self._lazy(c) for c in run):
            return self._clear(state, "an object nobody changes", natures)
        if state.holds and self._left_alone(state, run):
            return self._clear(state, "an object nobody changes", natures)
        lazy = all(self._lazy(c) for c in run)
        if lazy and not any(c.write.op in REMOVING for c in run):
            return self._filled_once(state, natures, run)
        return self._state(state, natures, run)

    def _left_alone(self, state: State, run: list[Change]) -> bool:
        """Of several objects of a class the one whose changing methods nobody calls."""
        owner = state.holds
        if owner is None or self.states.held_in(owner) < 2 or not all(c.attribute for c in run):
            return False
        changing = {c.function.last for c in run if c.function.facts.within}
        return state.var is not None and not self.states.asked_to(state.var, changing)

    def _sets(self, change: Change) -> bool:
        """A setter that no handler is seen to call: whoever puts the application together does."""
        given = change.write.value is not None and change.write.value.kind == "chain" and change.write.value.text in change.function.params
        named = change.function.last.startswith(("set_", "_set", "use_", "start", "_start", "enable", "disable", "attach", "bind", "install", "open", "close", "stop", "shutdown", "_stop", "reset", "load_", "_load"))
        return change.write.op == "=" and change.phase is Phase.UNKNOWN and (given or named) and not self._lazy(change)

    def _builds(self, state: State, change: Change) -> bool:
        """Whether a constructor sets it: where its object lasts, that happens once."""
        function = change.function
        owner = function.module.classes.get(function.facts.within)
        return function.last in BUILDERS and change.write.op == "=" and state.owner != function.facts.within and (owner is None or owner not in self.reach.serving)

    def _registers(self, change: Change) -> bool:
        """Whether the function that writes is one that collects things at import: a decorator, a registry."""
        function = change.function
        if change.phase is Phase.RUNTIME and function in self.reach.handlers:
            return False
        name = function.last
        if name.startswith(("register", "_register", "add_plugin", "on_", "subscribe")) or name in {"decorator", "wrapper", "deco", "inner", "__init_subclass__", "__new__", "__set_name__"}:
            return change.write.op not in REMOVING and change.phase is not Phase.RUNTIME
        inner = {f"{function.name}.{one.text}" for one in function.facts.returns if one.kind == "chain"}
        params = {one.text for one in function.facts.returns if one.kind == "chain"} & {name for name, _ in function.facts.params}
        gives_back = any(f"{function.name}.{one}" in function.module.functions for one in params) or bool(params and change.write.value and change.write.value.text in params)
        return bool(inner & set(function.module.functions)) or gives_back

    def _lazy(self, change: Change) -> bool:
        """Whether the write is made only where nothing was there before."""
        write = change.write
        if write.op == "setdefault":
            return True
        if write.op not in {"=", "[]=", "append", "update", "add"}:
            return False
        target = write.target
        tests = change.function.facts.tests
        return any(one == target or one.startswith(target + "[") or one == target + "[]" for one in tests)

    @staticmethod
    def _collects(state: State, run: list[Change]) -> bool:
        """A registry that code fills and nobody empties: the same in each process."""
        words = set(words_of(state.name)) | (set(words_of(state.holds.name)) if state.holds else set())
        if not words & {"registry", "registered", "registries", "plugins", "plugin", "hooks", "formats"}:
            return False
        return not any(c.write.op in REMOVING for c in run)

    def _follows(self, change: Change) -> bool:
        """Whether the function that writes compares a version with one kept outside first."""
        asked = {word for chain in change.function.facts.tests for word in words_of(chain)}
        return bool(asked & {"version", "etag", "mtime", "revision", "generation", "modified"}) and bool(self.purity.outside_of(change.function))

    @staticmethod
    def _about_itself(state: State) -> bool:
        words = set(words_of(state.module.path.replace("/", "_"))) | set(words_of(state.name))
        return bool(words & {"otel", "opentelemetry", "telemetry", "tracing", "tracer", "prometheus", "profiler", "logging", "metrics", "metric", "analytics", "posthog", "sentry", "statsd", "timeline"}) and not words & {"buffer", "session"}

    def _warns_once(self, state: State, run: list[Change]) -> bool:
        values = {c.write.value.text for c in run if c.write.op == "=" and c.write.value and c.write.value.kind == "const"}
        rebinds_only = all(c.write.op == "=" and not c.attribute for c in run)
        first = state.values[0][1] if state.values else None
        if rebinds_only and values == {"True"} and first and first.kind == "const" and first.text == "False":
            return all(self._lazy(c) for c in run)
        words = set(words_of(state.name))
        if words & {"sampled", "sample"} or (Nature.COUNTER in self._natures(state) and any(chain.endswith("getpid") for c in run for chain in c.function.facts.calls)):
            return True
        return bool(words & {"warned", "warnings", "warning", "logged", "reported", "once", "notified"})

    def _filled_once(self, state: State, natures: frozenset[Nature], run: list[Change]) -> Verdict:
        """Written where nothing was: whether it could differ is a matter of where it comes from."""
        if state.holds and any(c.attribute for c in state.changes if c.at_run_time):
            return self._state(state, natures, run)
        if any(chain in self.catalogue.clocks for c in run for chain in c.function.facts.calls) and state.shape != "class_attribute":
            return self._state(state, natures, run)
        if any(c.write.op in {"append", "add"} for c in run) and Nature.CONTAINER in natures:
            return self._seen(state, natures, run)
        inner = self._inner(run)
        if Nature.LOCK in inner:
            return self._found(state, Category.LOCK, Confidence.MEDIUM, "locks of this process, made on demand", natures, run)
        if Nature.CLIENT in inner:
            return self._found(state, Category.CLIENT_POOL, Confidence.HIGH, "clients made on demand", natures, run)
        if inner & {Nature.TASK, Nature.THREAD, Nature.PROCESS, Nature.QUEUE, Nature.EVENT}:
            return self._state(state, natures, run)
        outside = next(filter(None, (self.purity.outside_of(c.function) for c in run)), "")
        whole = all(c.write.op == "=" for c in run)
        if not outside:
            return self._clear(state, "idempotent lazy" if whole else "pure memo", natures)
        if whole and not self._reads_data(outside):
            return self._clear(state, "idempotent lazy", natures)
        category = self.category(state, natures, run, {Category.MEMO_CACHE: 2.0})
        return self._found(state, category, Confidence.MEDIUM, f"remembers what {outside} said", natures, run)

    def _seen(self, state: State, natures: frozenset[Nature], run: list[Change]) -> Verdict:
        """Something is noted the first time: so that it is not said twice, or because it counts."""
        said = all(any(chain.rpartition(".")[2] in SAYING for chain in c.function.facts.calls) for c in run)
        if said:
            return self._clear(state, "warn once", natures)
        return self._state(state, natures, run)

    def _inner(self, run: list[Change]) -> set[Nature]:
        """The natures of what is put in."""
        return {nature for c in run if c.write.value for nature in self.natures.of(c.function, c.write.value)}

    @staticmethod
    def _reads_data(outside: str) -> bool:
        last = outside.rpartition(".")[2]
        return last not in {"exists", "isfile", "isdir", "open", "now", "uuid4", "run", "walk", "glob", "listdir"}

    def _state(self, state: State, natures: frozenset[Nature], run: list[Change]) -> Verdict:
        category = self.category(state, natures, run)
        if self._dual(state, run):
            return self._found(state, category, Confidence.LOW, "the memory branch of two: shared where it is configured", natures, run)
        if any("WeakSet" in value.text or "WeakKey" in value.text for _, value in state.values) and Nature.LOCK not in natures:
            return self._found(state, category, Confidence.LOW, "lives only as long as its keys do", natures, run)
        return self._found(state, category, self._confidence(state, natures, run), "changed at run time", natures, run)

    def _dual(self, state: State, run: list[Change]) -> bool:
        """Whether the same is kept in a shared store where there is one."""
        said = [*state.under, *(text for _, value in state.values for text in _texts(value))]
        said += [chain for c in run for chain in c.function.facts.tests]
        return any(SHARED.search(one) for one in said)

    def _confidence(self, state: State, natures: frozenset[Nature], run: list[Change]) -> Confidence:
        certain = [c for c in run if c.phase is Phase.RUNTIME]
        ops = {c.write.op for c in run}
        keyed = any(set(words_of(c.write.key)) & set(ASKING) for c in run)
        both = bool(ops & REMOVING) and bool(ops - REMOVING)
        score = 1.0 * bool(certain) + 0.7 * keyed + 0.7 * both + 0.5 * (Nature.CONTAINER in natures or Nature.CACHE in natures)
        score += 0.3 * (state.shape in {"container", "instance", "app", "closure"}) - 0.4 * (state.shape == "attribute")
        score -= 0.5 * (state.shape == "instance" and Nature.NONE in natures)
        return Confidence.HIGH if score >= 2.2 and certain and (keyed or both) else Confidence.MEDIUM if score >= 0.8 else Confidence.LOW

    # -- what it is for ----------------------------------------------------------------------------------------------------

    def category(self, state: State, natures: frozenset[Nature], run: list[Change], start: dict[Category, float] | None = None) -> Category:
        """What the state is for: names weigh, and what is written weighs more."""
        names: list[tuple[str, float]] = [(state.name, 2.0)]
        attributes = Counter(c.attribute for c in run if c.attribute)
        names += [(name, 1.2) for name, _ in attributes.most_common(4)]
        if state.holds:
            names.append((state.holds.name.rpartition(".")[2], 2.0))
        if state.owner and state.shape in {"attribute", "class_attribute"}:
            names.append((state.owner.rpartition(".")[2], 1.0))
        names += [(c.function.last, 0.25) for c in run[:6]]
        *_, folder, file = ("", *state.module.dotted[-2:]) if len(state.module.dotted) > 1 else ("", "", *state.module.dotted)
        names += [(file, 0.5), (folder, 0.3)]
        names.append((state.module.facts.notes.get(state.line, ""), 0.5))
        points = hinted(names)
        for one, weight in (start or {}).items():
            points[one] = points.get(one, 0.0) + weight
        self._by_writes(state, natures, run, points)
        if not points:
            return self._unnamed(natures, run)
        best = max(points, key=lambda one: points[one])
        return best if points[best] >= 1.0 else self._unnamed(natures, run)

    @staticmethod
    def _unnamed(natures: frozenset[Nature], run: list[Change]) -> Category:
        """What is it for, when no name tells? What is put in and taken out under an id belongs to somebody."""
        ops = {c.write.op for c in run}
        keyed = any(words_of(c.write.key)[-1:] and words_of(c.write.key)[-1] in {"id", "key", "uid", "uuid", "name", "hash"} for c in run)
        if Nature.CONTAINER in natures and keyed and ops & REMOVING:
            return Category.SESSION_STORE
        return Category.OTHER_SINGLETON

    def _by_writes(self, state: State, natures: frozenset[Nature], run: list[Change], points: dict[Category, float]) -> None:
        def add(category: Category, weight: float) -> None:
            points[category] = points.get(category, 0.0) + weight

        calls = {chain for c in run for chain in c.function.facts.calls}
        marks = {mark for c in run for mark in c.function.facts.marks}
        timed = any(chain in self.catalogue.clocks for chain in calls)
        if "429" in marks:
            add(Category.RATE_LIMITER, 3.0)
        if timed and Category.RATE_LIMITER in points:
            add(Category.RATE_LIMITER, 1.0)
        if timed and "last" in words_of(state.name):
            add(Category.RATE_LIMITER, 1.0)
        if Nature.CACHE in natures:
            add(Category.MEMO_CACHE, 1.4)
        if timed and Category.MEMO_CACHE in points:
            add(Category.MEMO_CACHE, 0.7)
        inner = self._inner(run)
        for nature, category in (
            (Nature.THREAD, Category.BACKGROUND_WORKER), (Nature.TASK, Category.BACKGROUND_WORKER), (Nature.PROCESS, Category.BACKGROUND_WORKER),
            (Nature.LOCK, Category.LOCK), (Nature.QUEUE, Category.EVENT_BUS), (Nature.EVENT, Category.EVENT_BUS), (Nature.CLIENT, Category.CLIENT_POOL),
        ):  # fmt: skip
            if nature in inner:
                add(category, 3.0)
        numeric = any(value.kind == "const" and value.text.isdigit() for _, value in state.values) or "int" in state.annotation
        if Nature.COUNTER in natures or (numeric and any(c.write.op == "+=" and not c.attribute for c in run)):
            add(Category.COUNTER, 3.0)
        ops = {c.write.op for c in run if not c.attribute}
        whole = ops == {"="}
        if whole and Category.TENANT_CONFIG in points:
            add(Category.TENANT_CONFIG, 1.0)
        text = " ".join([state.annotation, *(c.write.value.text for c in run if c.write.value), *(hint for c in run for _, hint in c.function.facts.params)])
        if "WebSocket" in text or "websocket" in text:
            add(Category.CONNECTION_MANAGER, 3.0)
        if any(self._lazy(c) for c in run) and Nature.CONTAINER in natures:
            add(Category.MEMO_CACHE, 0.5)
        for words, category, weight in KEYED:
            if any(words & set(words_of(c.write.key)) for c in run):
                add(category, weight)
        if state.shape == "app" and "config" in state.under[0]:
            add(Category.TENANT_CONFIG, 1.5)
        if whole and any(self.purity.outside_of(c.function) for c in run):
            add(Category.MEMO_CACHE, 0.8)

    # -- threads and tasks -----------------------------------------------------------------------------------------------------

    def _spawned(self, state: State) -> Verdict:
        function = state.function
        phase = self.reach.phase(function) if function else Phase.UNKNOWN
        if function is None or phase is Phase.COMMAND:
            return self._clear(state, "command only")
        place = self.states.places.of(function, state.annotation.removesuffix("()")) if state.annotation else None
        target = place.what if place and isinstance(place.what, FunctionIn) else None
        endless = target is not None and ("forever" in target.facts.marks or any("sleep" in chain for chain in target.facts.calls))
        task = state.annotation.endswith("()") or state.name in {"create_task", "ensure_future"}
        joined = "waits" in function.facts.marks
        if endless:
            return self._found(state, Category.BACKGROUND_WORKER, Confidence.HIGH if phase is not Phase.UNKNOWN else Confidence.MEDIUM, "a loop in each process", frozenset(), [])
        if not task and phase is Phase.RUNTIME and not joined:
            return self._found(state, Category.BACKGROUND_WORKER, Confidence.MEDIUM, "work a restart loses", frozenset(), [])
        if phase is Phase.STARTUP and function in self.reach.starters and not joined:
            return self._found(state, Category.BACKGROUND_WORKER, Confidence.MEDIUM, "started in each process", frozenset(), [])
        return self._found(state, Category.BACKGROUND_WORKER, Confidence.LOW, "work a restart loses", frozenset(), [])

    # -- decorators ------------------------------------------------------------------------------------------------------------

    def _decorated(self, state: State) -> Verdict:
        function = state.function
        if function is None:
            return self._clear(state, "nothing")
        cached = next((one for one in function.facts.decorators if self._caches(function, one)), None)
        if cached is None:
            return self._clear(state, "no cache")
        return self._cached(state, function, cached)

    def _caches(self, function: FunctionIn, decorator: Value) -> bool:
        dotted = self.project.dotted(function.module, decorator.text)
        last = dotted.rpartition(".")[2]
        if function.facts.outer or last.startswith(("no_", "never", "clear", "invalidate", "without")):
            return False  # a cache in a function that is called anew ends with the call
        if dotted in self.catalogue.cache_decorators:
            return not (last == "cache" and "." in decorator.text and "functools" not in dotted)
        words = set(words_of(last))
        own = isinstance(self.project.named(function.module, decorator.text.partition(".")[0]), FunctionIn)
        return bool(words & {"memoize", "memoized", "lru"}) or ("cache" in words and (own or "resource" in words or "data" in words) and not words & {"control", "page", "key", "redis", "property"})

    def _cached(self, state: State, function: FunctionIn, decorator: Value) -> Verdict:
        returned = frozenset(nature for one in function.facts.returns for nature in self.natures.of(function, one))
        owners = [found for one in function.facts.returns if (found := self.states.places.class_of(function, one))]
        if Nature.CLIENT in returned or any(self._keeps_client(one) for one in owners):
            return self._found(state, Category.CLIENT_POOL, Confidence.MEDIUM, "keeps one client a process", returned, [])
        changed = [c for one in owners for c in self.states.inner_changes(one) if c.phase is Phase.RUNTIME]
        if changed:
            category = self.category(State("instance", state.module, state.line, state.name, holds=owners[0]), returned, changed)
            return self._found(state, category, Confidence.MEDIUM, "one object for all, changed at run time", returned, changed)
        outside = self.purity.outside_of(function)
        timed = any(name in {"ttl", "timeout", "seconds", "expire"} for name, _ in decorator.named) or "ttl" in decorator.text.lower() or "TTLCache" in str(decorator)
        cleared = self._cleared(function)
        params = [name for name, _ in function.facts.params if name not in {"self", "cls"}]
        if timed or (cleared and outside):
            return self._found(state, Category.MEMO_CACHE, Confidence.HIGH, "remembers what changes: it expires or is cleared", returned, [])
        if outside and (params or self._reads_data(outside)):
            return self._found(state, Category.MEMO_CACHE, Confidence.MEDIUM, f"remembers what {outside} said", returned, [])
        return self._clear(state, "pure memo" if params else "idempotent lazy", returned)

    def _cleared(self, function: FunctionIn) -> bool:
        return any(
            chain.endswith(f"{function.last}.cache_clear") or chain.endswith(f"{function.last}.cache_invalidate")
            for others in self.states.readers_of.get(function.last, {}).values()
            for other in others
            for chain in other.facts.calls
            if "test" not in other.module.path
        )


def _texts(value: Value) -> Iterator[str]:
    """All that is named in a value."""
    yield value.text
    for one in (*value.parts, *(its for _, its in value.named)):
        yield from _texts(one)


def root_last(chain: str) -> str:
    """The last name of a chain: of ``self._lock`` and of ``locks[]`` alike."""
    return chain.replace("[]", "").replace("()", "").rpartition(".")[2] or root_of(chain)
