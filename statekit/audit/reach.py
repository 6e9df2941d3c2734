"""When a function runs: at import, at start-up, or while requests are served, and through which handler."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Container, Iterable, Mapping
from enum import StrEnum

from statekit.audit.catalogue import Catalogue
from statekit.audit.facts import Value
from statekit.audit.links import Linker, Links, Said
from statekit.audit.parts import (
    BY_BASE,
    HANDLER_PARAMS,
    HANDLER_TYPES,
    LIFESPAN,
    SERVING,
    SPECIAL,
    STARTING,
    VERBS,
)
from statekit.audit.places import Places
from statekit.audit.portions import Shared, links_of
from statekit.audit.project import ClassIn, FunctionIn, Module, Project
from statekit.audit.reading.chains import last_of

__all__ = ["Phase", "Reach"]


class Phase(StrEnum):
    """When a function runs, as far as can be told."""

    RUNTIME = "runtime"
    STARTUP = "startup"
    COMMAND = "command"
    UNKNOWN = "unknown"


class Reach:
    """Who calls whom, and from where it all begins."""

    def __init__(
        self, project: Project, places: Places, catalogue: Catalogue, shared: Shared | None = None
    ) -> None:
        self.project = project
        self.catalogue = catalogue
        self.handlers: dict[FunctionIn, str] = {}
        """Functions that serve requests or messages, or go on in the background, and what makes them so."""
        self.starters: set[FunctionIn] = set()
        self.commands: set[FunctionIn] = set()
        self.edges: dict[FunctionIn, dict[FunctionIn, None]] = defaultdict(dict)
        """In the order in which the calls stand: so of two ways that are equally short it is always the same one."""
        self._calls: dict[FunctionIn, dict[FunctionIn, None]] = defaultdict(dict)
        """Of the edges those that are calls: what is only named or given away runs later, if ever."""
        self._called: set[FunctionIn] = set()
        """Those to whom somebody leads."""
        self.serving: set[ClassIn] = set()
        """Classes with an object for each request, connection or message."""
        self.decorating: set[FunctionIn] = set()
        """Functions that are used as decorators somewhere."""
        self._perhaps: list[FunctionIn] = []
        self._assembling: set[FunctionIn] = set()
        """Functions that put an application together: no request does that, whatever seems to call them."""
        self.routing: set[ClassIn] = set()
        """Classes whose objects hand their own methods to a router, or have handlers inside their methods."""
        self._inherits: dict[ClassIn, tuple[bool, list[str]]] = {}
        self.registered: set[ClassIn] = set()
        """Classes given to a framework: middleware, handlers."""
        self._starting = set(filter(self._starts, {one.last for one in project.functions()}))
        for function in project.functions():
            self._roles(function)
        for links in links_of(Linker(project, places, catalogue), shared):
            self._connect(links)
        self.starters |= self._assembling
        self._adopt()
        self._serve()
        self.runtime = self._closure(self.handlers, self._assembling - self.handlers.keys())
        self.startup = self._closure(self._roots(), edges=self._calls)
        mains = [module.functions["<main>"] for module in project.modules if not module.facts.error]
        self.command = self._closure([*self.commands, *mains], edges=self._calls)
        self.early = self._closure(self._roots())
        """All that the start names, also what it only gives away."""

    # -- questions ---------------------------------------------------------------------------------------------

    def phase(self, function: FunctionIn) -> Phase:
        """When a function runs. What a handler reaches runs at run time, whoever else calls it."""
        if function.facts.name == "<main>":
            return Phase.COMMAND
        if function in self.runtime:
            return Phase.RUNTIME
        if function in self.startup or function.last in self._starting:
            return Phase.STARTUP
        return Phase.COMMAND if function in self.command else Phase.UNKNOWN

    def handler_of(self, function: FunctionIn) -> FunctionIn | None:
        """A handler through which a function is reached, the nearest."""
        seen = function
        for _ in range(40):
            before = self.runtime.get(seen)
            if before is None:
                return seen if seen in self.handlers else None
            seen = before
        return None

    # -- roles ---------------------------------------------------------------------------------------------------

    def _roles(self, function: FunctionIn) -> None:
        facts = function.facts
        for decorator in facts.decorators:
            self._decorated(function, decorator)
        owner = function.module.classes.get(facts.within)
        if owner and facts.name.startswith(owner.name) and not facts.outer:
            self._in_class(function, owner)
        elif self._looks_like_handler(function):
            self.handlers.setdefault(function, "takes a request")

    def _decorated(self, function: FunctionIn, decorator: Value) -> None:
        known = self.catalogue
        last = decorator.text.rpartition(".")[2]
        said = " ".join(part.text for part in decorator.parts if part.kind == "const")
        if last in known.startup_decorators or (last in {"on_event", "listener"} and LIFESPAN.search(said)):
            self.starters.add(function)
        elif "click" in decorator.text or (last in known.cli_decorators and not self._of_a_bot(decorator)):
            self.commands.add(function)
        elif LIFESPAN.search(function.last) and last == "asynccontextmanager":
            self.starters.add(function)
        elif last in known.task_decorators and "." in decorator.text + ".":
            self.handlers[function] = f"@{decorator.text}"
        elif last in known.route_decorators and (decorator.kind == "call" or "." in decorator.text):
            if not self._own_decorator(function.module, decorator):
                self.handlers[function] = f"@{decorator.text}" + (
                    f"({said!r})" if said.startswith("/") else ""
                )
        elif last == "connect":
            (self.starters.add if STARTING.search(decorator.text) else self._by_signal)(function)
        elif last in {
            "login_required",
            "api_view",
            "csrf_exempt",
            "require_POST",
            "require_GET",
            "view_config",
            "expose",
        }:
            self.handlers[function] = f"@{decorator.text}"

    def _by_signal(self, function: FunctionIn) -> None:
        self.handlers[function] = "receives a signal"

    def _own_decorator(self, module: Module, decorator: Value) -> bool:
        """Whether the project defines a function of that bare name itself, to register something."""
        if "." in decorator.text:
            return False
        found = self.project.named(module, decorator.text)
        return isinstance(found, FunctionIn) and decorator.kind == "call" and not decorator.parts

    @staticmethod
    def _of_a_bot(decorator: Value) -> bool:
        return any(word in decorator.text for word in ("bot.", "commands.", "tree.", "client."))

    def _looks_like_handler(self, function: FunctionIn) -> bool:
        params = function.facts.params
        if not params:
            return False
        for wanted in HANDLER_PARAMS:
            if params[0][0] in wanted and wanted <= function.params.keys():
                return True
        return not HANDLER_TYPES.isdisjoint([last_of(hint) for _, hint in params])

    def _in_class(self, function: FunctionIn, owner: ClassIn) -> None:
        if function.last in {"__init__", "__new__", "__post_init__", "as_view"}:
            return
        if owner not in self._inherits:
            self._inherits[owner] = self._lineage(owner)
        serves, special = self._inherits[owner]
        if serves:
            self.serving.add(owner)
            if function.last in VERBS or function.last.startswith(("on_", "receive", "websocket_")):
                self.handlers.setdefault(function, f"{owner.name} serves requests")
        elif not any(self._by_base(function, owner, base) for base in special):
            self._by_signature(function, owner)

    def _lineage(self, owner: ClassIn) -> tuple[bool, list[str]]:
        """Whether a class inherits from what serves requests, and the bases by which its methods may get a part."""
        names = owner.outside + [one.name for one in owner.line()]
        known = self.catalogue.request_bases
        serves = any(base in known or base.endswith(SERVING) for base in names)
        return serves, [base for base in names if base.endswith(SPECIAL)]

    def _by_signature(self, function: FunctionIn, owner: ClassIn) -> None:
        """Made with `get_response` it is a middleware; whoever takes a request, and is not called, serves it."""
        made = owner.methods.get("__init__")
        if made and "get_response" in made.params:
            self.registered.add(owner)
            if function.last == "__call__" or function.last.startswith("process_"):
                self.handlers.setdefault(function, f"{owner.name} is a middleware")
        elif self._looks_like_handler(function):
            self._perhaps.append(function)

    def _by_base(self, function: FunctionIn, owner: ClassIn, base: str) -> bool:
        """Whether what a class inherits from gives this method its part."""
        for ending, method, part in BY_BASE:
            if base.endswith(ending) and method.fullmatch(function.last):
                if part in {"command", "starter"}:
                    (self.commands if part == "command" else self.starters).add(function)
                else:
                    self.handlers.setdefault(function, f"{owner.name} {part}")
                return True
        return False

    def _routes(self, method: FunctionIn) -> None:
        owner = method.module.classes.get(method.facts.within)
        if owner:
            self.routing.add(owner)

    def _serve(self) -> None:
        """Methods that take a request, or of views, and that no other calls are called by the framework."""
        for method in self._perhaps:
            if method not in self._called:
                self.handlers.setdefault(method, "takes a request")
        for handler in self.handlers:
            outer = handler.module.functions.get(handler.facts.outer)
            if outer and handler.facts.decorators:
                self._routes(outer)
        for owner in filter(self.serving.__contains__, self.project.classes()):
            for name, method in owner.methods.items():
                if name not in {"__init__", "__new__", "as_view"} and method not in self._called:
                    self.handlers.setdefault(method, f"{owner.name} serves requests")

    # -- links -----------------------------------------------------------------------------------------------------

    def _connect(self, links: Links) -> None:
        self.edges.update(links.edges)
        self._calls.update(links.calls)
        self._called.update(*links.edges.values())
        for said in links.said:
            self._told(said)

    def _told(self, said: Said) -> None:
        """What one function says of the part of another, or of a class."""
        part, whose, why = said
        if isinstance(whose, ClassIn):
            self.registered.add(whose)
        elif part == "handler":
            self.handlers.setdefault(whose, why)
        elif part == "routes":
            self._routes(whose)
        elif part == "starter":
            self.starters.add(whose)
        elif part == "decorating":
            self.decorating.add(whose)
        elif whose not in self.handlers:
            self._assembling.add(whose)

    def _adopt(self) -> None:
        """Inner functions run when their outer one does, unless they have a part of their own."""
        for function in self.project.functions():
            outer = function.module.functions.get(function.facts.outer)
            if outer and not function.facts.decorators:
                self._called.add(function)
                if function not in self.handlers:
                    self._within(outer, function)

    def _within(self, outer: FunctionIn, function: FunctionIn) -> None:
        if outer is not function:
            self.edges[outer][function] = None
        if function.last in outer.facts.calls:
            self._calls[outer][function] = None

    # -- closures -----------------------------------------------------------------------------------------------------

    def _closure(
        self,
        roots: Iterable[FunctionIn],
        beyond: Container[FunctionIn] = (),
        edges: Mapping[FunctionIn, Iterable[FunctionIn]] | None = None,
    ) -> dict[FunctionIn, FunctionIn | None]:
        """All that is reached, each with who calls it on the shortest way; not what is `beyond`, nor through it."""
        ways = self.edges if edges is None else edges
        reached: dict[FunctionIn, FunctionIn | None] = dict.fromkeys(roots)
        todo = deque(reached)
        while todo:
            one = todo.popleft()
            for called in ways.get(one, ()):
                if called not in reached and called not in beyond:
                    reached[called] = one
                    todo.append(called)
        return reached

    def _roots(self) -> list[FunctionIn]:
        modules = [module.functions["<module>"] for module in self.project.modules if not module.facts.error]
        named = [one for one in self.project.functions() if one.last in self._starting]
        return [*modules, *self.starters, *(one for one in named if one not in self.handlers)]

    def _starts(self, last: str) -> bool:
        """Whether what is called so is called at the start."""
        return last in self.catalogue.startup_names or last.startswith(self.catalogue.prefixes)
