"""The files of a project as one: which module an import means, what a name stands for, who inherits from whom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from statekit.audit.facts import Binding, Class, FileFacts, Function

__all__ = ["ClassIn", "FunctionIn", "Module", "Project", "Var"]


@dataclass(slots=True, eq=False)
class Module:
    """A file, its names looked up by name."""

    facts: FileFacts
    dotted: tuple[str, ...]
    functions: dict[str, FunctionIn] = field(default_factory=dict)
    classes: dict[str, ClassIn] = field(default_factory=dict)
    vars: dict[str, Var] = field(default_factory=dict)
    names: dict[str, Named] = field(default_factory=dict)
    """Looked up before."""

    @property
    def path(self) -> str:
        return self.facts.path


@dataclass(slots=True, eq=False)
class FunctionIn:
    """A function and where it is."""

    module: Module
    facts: Function
    name: str
    last: str
    """The bare name."""
    params: dict[str, str]
    """Names of parameters and their annotations."""

    def __repr__(self) -> str:
        return f"{self.module.path}:{self.facts.name}"


@dataclass(slots=True, eq=False)
class ClassIn:
    """A class, its body, and its methods."""

    module: Module
    facts: Class
    body: dict[str, list[Binding]] = field(default_factory=dict)
    methods: dict[str, FunctionIn] = field(default_factory=dict)
    bases: list[ClassIn] = field(default_factory=list)
    """Those of the project."""
    outside: list[str] = field(default_factory=list)
    """Dotted names of all bases that are not the project's, inherited ones too."""
    derived: list[ClassIn] = field(default_factory=list)
    _line: list[ClassIn] | None = None

    @property
    def name(self) -> str:
        return self.facts.name

    def line(self) -> list[ClassIn]:
        """The class and all it inherits from in the project."""
        if self._line is None:
            seen: list[ClassIn] = []
            todo = [self]
            while todo:
                one = todo.pop(0)
                if one not in seen:
                    seen.append(one)
                    todo.extend(one.bases)
            self._line = seen
        return self._line

    def method(self, name: str) -> FunctionIn | None:
        return next((one.methods[name] for one in self.line() if name in one.methods), None)

    def holder_of(self, attribute: str) -> ClassIn | None:
        """The class in whose body an attribute is bound."""
        return next((one for one in self.line() if attribute in one.body), None)


@dataclass(slots=True, eq=False)
class Var:
    """A name bound in the body of a module."""

    module: Module
    name: str
    bindings: list[Binding]


class Outside(NamedTuple):
    """Something the project does not define: the dotted name it is imported by."""

    dotted: str


Named = FunctionIn | ClassIn | Var | Module | Outside | None


class Project:
    """All files of one audit."""

    def __init__(self, files: Iterable[FileFacts]) -> None:
        self.modules = [_module(facts) for facts in files]
        self._ending: dict[tuple[str, ...], list[Module]] = defaultdict(list)
        """Modules by the last part, and by the last two parts, of their dotted paths."""
        self._at: dict[tuple[str, ...], list[Module]] = defaultdict(list)
        """Modules by the whole of them."""
        for module in self.modules:
            if module.dotted:
                self._at[module.dotted].append(module)
                for size in (1, 2)[: len(module.dotted)]:
                    self._ending[module.dotted[-size:]].append(module)
        self._parts = {part for module in self.modules for part in module.dotted}
        self.by_path = {module.path: module for module in self.modules}
        self._functions = [one for module in self.modules for one in module.functions.values()]
        self._classes = [one for module in self.modules for one in module.classes.values()]
        self._inherit()
        self.methods: dict[str, list[FunctionIn]] = defaultdict(list)
        """All methods of the project by their bare name."""
        for function in self.functions():
            if function.facts.within:
                self.methods[function.last].append(function)

    def functions(self) -> Iterator[FunctionIn]:
        return iter(self._functions)

    def classes(self) -> Iterator[ClassIn]:
        return iter(self._classes)

    # -- names -------------------------------------------------------------------------------------------

    def named(self, module: Module, name: str, depth: int = 8) -> Named:
        """What a bare name means in a module."""
        if name in module.names:
            return module.names[name]
        found = self._find(module, name, depth)
        if depth == 8:
            module.names[name] = found
        return found

    def _find(self, module: Module, name: str, depth: int) -> Named:
        known: Named = module.classes.get(name) or module.functions.get(name) or module.vars.get(name)
        if known is not None and not (isinstance(known, Var) and name in module.facts.imports):
            return known
        imported = module.facts.imports.get(name)
        if imported is not None and depth:
            return self.imported(module, imported, depth - 1) or known
        for star in module.facts.stars if depth else ():
            origin = self.imported(module, star, depth - 1)
            if isinstance(origin, Module) and origin is not module:
                found = self.named(origin, name, depth - 1)
                if found is not None and not isinstance(found, Outside):
                    return found
        return known

    def imported(self, module: Module, dotted: str, depth: int = 7) -> Named:
        """What a dotted name that was imported means; relative ones begin with dots."""
        level = len(dotted) - len(dotted.lstrip("."))
        parts = [part for part in dotted.split(".") if part]
        if level:
            is_package = module.path.endswith("__init__.py")
            keep = len(module.dotted) - level + is_package
            base = list(module.dotted[: max(0, keep)])
            return self._inside(self._exactly((*base, *parts)), base, parts, depth)
        if parts and parts[0] not in self._parts:
            return Outside(dotted)
        return self._inside(self._closest(tuple(parts), module), [], parts, depth) or Outside(dotted)

    def _inside(self, found: Module | None, base: list[str], parts: list[str], depth: int) -> Named:
        """The longest leading part that is a module, and in it what remains."""
        if found:
            return found
        for cut in range(len(parts) - 1, -1, -1):
            head = (*base, *parts[:cut])
            origin = self._exactly(head) if base else self._closest(head, None)
            if origin is None:
                continue
            rest = parts[cut:]
            thing = self.named(origin, rest[0], depth) if depth else None
            for part in rest[1:]:
                thing = self._attribute(thing, part, depth)
            return thing
        return None

    def _attribute(self, thing: Named, name: str, depth: int) -> Named:
        if isinstance(thing, Module):
            return self.named(thing, name, depth)
        if isinstance(thing, ClassIn):
            return thing.method(name)
        return Outside(f"{thing.dotted}.{name}") if isinstance(thing, Outside) else None

    def _exactly(self, dotted: tuple[str, ...]) -> Module | None:
        return self._at[dotted][0] if dotted in self._at else None

    def _closest(self, dotted: tuple[str, ...], origin: Module | None) -> Module | None:
        """The module whose dotted path ends so; of several the one nearest to where it is imported."""
        if not dotted:
            return None
        size = len(dotted)
        if size == 1 and origin is not None:  # `import utils`: the root's, or a neighbour
            near = (*origin.dotted[:-1], *dotted)
            found = [one for name in {dotted, near} for one in self._at.get(name, ())]
        elif size == 1:
            among = self._ending.get(dotted, ())
            found = [one for one in among if len(one.dotted) <= 2 or one.path.endswith("__init__.py")]
        else:
            found = [one for one in self._ending.get(dotted[-2:], ()) if one.dotted[-size:] == dotted]
        if len(found) > 1:
            here = origin.dotted if origin else ()
            return min(found, key=lambda one: (-_shared(one.dotted, here), len(one.dotted)))
        return found[0] if found else None

    def dotted(self, module: Module, chain: str) -> str:
        """The dotted name a chain goes by outside of the project; the chain itself where it does not leave it."""
        root, dot, rest = chain.partition(".")
        found = self.named(module, root)
        if isinstance(found, Outside):
            return found.dotted + dot + rest
        return chain

    # -- classes -----------------------------------------------------------------------------------------

    def _inherit(self) -> None:
        for one in self.classes():
            for base in one.facts.bases:
                found = self.class_named(one.module, base)
                if found is not None and found is not one:
                    one.bases.append(found)
                    found.derived.append(one)
                elif found is None and base:
                    one.outside.append(self.dotted(one.module, base))
        for one in self.classes():
            known = [name for ancestor in one.line()[1:] for name in ancestor.outside]
            one.outside.extend(name for name in known if name not in one.outside)

    def class_named(self, module: Module, chain: str) -> ClassIn | None:
        """The project's class a chain names, through modules, subscripts of generics and aliases."""
        chain = chain.replace("[]", "").strip("'\" ")
        if "|" in chain or " " in chain:
            chain = next((part.strip() for part in chain.split("|") if part.strip() != "None"), "")
        if not chain or "(" in chain:
            return None
        root, _, rest = chain.partition(".")
        thing = self.named(module, root)
        for part in rest.split(".") if rest else ():
            if isinstance(thing, ClassIn):
                thing = thing.module.classes.get(f"{thing.name}.{part}")
            else:
                thing = self._attribute(thing, part, 6)
        return thing if isinstance(thing, ClassIn) else None


def _module(facts: FileFacts) -> Module:
    parts = _parts(facts.path)
    if parts and parts[-1] == "__init__":
        parts.pop()
    module = Module(facts, tuple(parts))
    for one in facts.functions:
        last = one.name.rpartition(".")[2]
        module.functions[one.name] = FunctionIn(module, one, one.name, last, dict(one.params))
    for one_class in facts.classes:
        module.classes[one_class.name] = ClassIn(module, one_class)
    for binding in facts.bindings:
        if binding.owner:
            owner = module.classes.get(binding.owner)
            if owner:
                owner.body.setdefault(binding.name, []).append(binding)
        elif binding.name in module.vars:
            module.vars[binding.name].bindings.append(binding)
        else:
            module.vars[binding.name] = Var(module, binding.name, [binding])
    for function in module.functions.values():
        owner = module.classes.get(function.facts.within)
        if owner and function.facts.name == f"{owner.name}.{function.last}":
            owner.methods[function.last] = function
    return module


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count


def _parts(path: str) -> list[str]:
    """The folders of a path and the name of its file, without its suffix."""
    *folders, name = path.split("/")
    stem, _, suffix = name.rpartition(".")
    return [*folders, stem if stem and suffix else name]
