"""Django's settings: caches, channel layers and session engines, as production sees them.

Settings modules that star-import one another form a chain. Where a project has one that is named for production, only
what is effective there is reported, wherever in the chain it stands; a test's or a developer's module is left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from statekit.audit.deploy.found import REDIS, Hit, Place
from statekit.audit.deploy.ground import Ground
from statekit.audit.deploy.look import Called, Module, Setting
from statekit.audit.deploy.names import offstage
from statekit.audit.deploy.options import PRODUCTION, Certainty, Option, branch_of, final, options, text_of
from statekit.audit.deploy.urls import SURE
from statekit.audit.model import Confidence, Severity

__all__ = ["django_hits"]

MARKS = {
    "INSTALLED_APPS",
    "MIDDLEWARE",
    "ROOT_URLCONF",
    "DATABASES",
    "TEMPLATES",
    "WSGI_APPLICATION",
    "CACHES",
    "SESSION_ENGINE",
}
MEMORY = re.compile(r"locmem|InMemoryChannelLayer", re.IGNORECASE)
DUMMY = re.compile(r"DummyCache|^dummycache://", re.IGNORECASE)
FILES = re.compile(r"FileBasedCache|^filecache://", re.IGNORECASE)
CACHED_SESSIONS = re.compile(r"backends\.(cache|cached_db)$")
SHARED_CACHE = (
    'CACHES = {"default": {\n    "BACKEND": "django.core.cache.backends.redis.RedisCache",\n'
    f'    "LOCATION": {REDIS},\n}}}}'
)
SHARED_CHANNELS = (
    'CHANNEL_LAYERS = {"default": {\n    "BACKEND": "channels_redis.core.RedisChannelLayer",\n'
    f'    "CONFIG": {{"hosts": [{REDIS}]}},\n}}}}'
)


@dataclass(frozen=True, slots=True)
class Chain:
    """A settings module and those it takes everything from, its own settings last."""

    modules: list[Module]

    def last(self, name: str) -> list[tuple[Module, Setting, Certainty]]:
        """What a setting may be at the end of the chain."""
        for module in reversed(self.modules):
            found = final(
                one for one in module.settings if one.name == name and one.form == "name" and not one.owner
            )
            if found:
                return [(module, setting, certainty) for setting, certainty in found]
        return []

    def items(self, name: str) -> list[Setting]:
        """What is put into a setting piece by piece: ``CACHES["default"] = …``."""
        return [
            one
            for module in self.modules
            for one in module.settings
            if one.form == "item" and one.base.partition("[")[0] == name and branch_of(one.under) != "dev"
        ]


@dataclass(frozen=True)
class Backend:
    """One entry of CACHES: its class or address, and where that is spelt."""

    alias: str
    text: str
    place: Place
    certainty: Certainty


def django_hits(ground: Ground) -> Iterator[Hit]:
    """Everything Django's settings keep in the process."""
    seen: set[tuple[str, int, str]] = set()
    for chain in _chains(ground):
        for hit in _Settings(ground, chain).hits():
            key = hit.place.path, hit.place.line, hit.rule
            if key not in seen:
                seen.add(key)
                yield hit


# -- which module counts ----------------------------------------------------------------------------------------


def _chains(ground: Ground) -> list[Chain]:
    modules = [one for one in ground.modules if _is_settings(one)]
    taken = {other.path for one in modules for other in _based_on(one, modules)}
    ends = [one for one in modules if one.path not in taken]
    productive = [one for one in ends if PRODUCTION.search(re.sub(r"[/._-]", " ", one.path))]
    chains = [Chain(list(_line(one, modules, set()))) for one in productive or ends]
    if productive:  # what no production module builds on is somebody else's
        covered = {one.path for chain in chains for one in chain.modules}
        chains += [
            Chain([one]) for one in modules if one.path not in covered and not _beside(one, productive)
        ]
    return chains


def _is_settings(module: Module) -> bool:
    if module.path.endswith("conf/global_settings.py"):  # Django itself, vendored
        return False
    names = {one.name for one in module.settings if one.form == "name" and not one.owner}
    return len(names & MARKS) >= 2 or (
        bool(names & {"CACHES", "CHANNEL_LAYERS"}) and not offstage(module.path)
    )


def _beside(module: Module, productive: list[Module]) -> bool:
    folder = module.path.rpartition("/")[0]
    return any(one.path.rpartition("/")[0] == folder for one in productive)


def _based_on(module: Module, modules: list[Module]) -> Iterator[Module]:
    for origin in module.facts.stars:
        stem = origin.rpartition(".")[2]
        folder = module.path.rpartition("/")[0]
        near = [one for one in modules if one is not module and _stem(one) == stem]
        if stem:
            yield from [one for one in near if one.path.rpartition("/")[0] == folder][:1] or near[:1]


def _stem(module: Module) -> str:
    return module.path.removesuffix("/__init__.py").removesuffix(".py").rpartition("/")[2]


def _line(module: Module, modules: list[Module], seen: set[str]) -> Iterator[Module]:
    if module.path in seen:
        return
    seen.add(module.path)
    for one in _based_on(module, modules):
        yield from _line(one, modules, seen)
    yield module


# -- what its settings say --------------------------------------------------------------------------------------


class _Settings:
    def __init__(self, ground: Ground, chain: Chain) -> None:
        self.ground = ground
        self.chain = chain

    def hits(self) -> Iterator[Hit]:
        yield from self._caches()
        yield from self._channels()
        yield from self._files()

    # -- CACHES -----------------------------------------------------------------------------------------

    def _caches(self) -> Iterator[Hit]:
        found = self.chain.last("CACHES")
        if not found and not self.chain.items("CACHES"):
            yield from self._absent()
            return
        backends = self._settled([one for place in found for one in self._backends(*place)])
        needed = set(self._needs)
        for group in _by_place(backends).values():
            hit = self._cache(group, needed)
            if hit:
                yield hit

    def _backends(self, module: Module, setting: Setting, certainty: Certainty) -> Iterator[Backend]:
        for option in options(module, setting.value, setting):
            sure = min(certainty, option.certainty)
            if isinstance(option.node, ast.Dict):
                yield from self._entries(module, setting, option, sure)
            elif text_of(option.node):  # an address: env.cache(default="locmemcache://")
                yield Backend("default", text_of(option.node), _place(module, setting, option), sure)

    def _entries(self, module: Module, setting: Setting, said: Option, sure: Certainty) -> Iterator[Backend]:
        assert isinstance(said.node, ast.Dict)
        for key, value in zip(said.node.keys, said.node.values, strict=True):
            alias = text_of(key) or "**"
            for option in options(module, value, said.setting or setting):
                yield from self._backend(
                    module, alias, option._replace(certainty=min(sure, option.certainty)), setting
                )

    def _backend(self, module: Module, alias: str, said: Option, setting: Setting) -> Iterator[Backend]:
        if isinstance(said.node, ast.Dict):
            for key, value in zip(said.node.keys, said.node.values, strict=True):
                if text_of(key) in ("BACKEND", "LOCATION_URL"):
                    for option in options(module, value, said.setting or setting):
                        sure = min(said.certainty, option.certainty)
                        yield Backend(alias, text_of(option.node), _place(module, setting, option), sure)
        else:
            yield Backend(alias, text_of(said.node), _place(module, setting, said), said.certainty)

    def _settled(self, backends: list[Backend]) -> list[Backend]:
        """After ``CACHES["default"] = …``, which replaces an alias or, under a condition, may."""
        for one in self.chain.items("CACHES"):
            if MEMORY.search(ast.unparse(one.value)):
                continue
            alias = one.name if one.base == "CACHES" else "default"
            if branch_of(one.under):
                backends = [_weakened(it) if it.alias == alias else it for it in backends]
            else:
                backends = [it for it in backends if it.alias != alias]
        return backends

    def _cache(self, group: list[Backend], needed: set[str]) -> Hit | None:
        local = [one for one in group if MEMORY.search(one.text)]
        weak = [one for one in group if DUMMY.search(one.text) or FILES.search(one.text)]
        if local:
            return self._memory(local, needed)
        used = [one for one in weak if one.alias in self._counted and one.certainty is Certainty.PLAIN]
        return self._weak(used[0]) if used else None

    def _memory(self, local: list[Backend], needed: set[str]) -> Hit:
        one = max(local, key=lambda it: it.certainty)
        aliases = ", ".join(f'"{it.alias}"' for it in local)
        plain = one.certainty is Certainty.PLAIN
        counted = needed - {"cache_page"}  # whole pages may be stale in one worker: some live well with that
        sure = SURE[one.certainty] if counted or not plain else Confidence.MEDIUM
        use = f", and {self._because(needed)}" if needed else ""
        severity = Severity.ERROR if plain and self._sessions_cached else None
        why = f"`{one.place.name}` keeps {aliases} in the memory of each process{use}: what one worker deletes or replaces lives on in the others"
        rule = "SK1202" if plain else "SK1211"
        return Hit(rule, one.place, why, SHARED_CACHE, sure, severity=severity, evidence=(one.text,))

    def _weak(self, one: Backend) -> Hit:
        what = (
            "keeps nothing at all" if DUMMY.search(one.text) else "keeps its entries in files of one machine"
        )
        why = f'`{one.place.name}` names a cache for "{one.alias}" that {what}, and {self._because(self._counted[one.alias])}'
        return Hit("SK1202", one.place, why, SHARED_CACHE, Confidence.MEDIUM, evidence=(one.text,))

    def _absent(self) -> Iterator[Hit]:
        """CACHES is nowhere set; that is a finding of whatever relies on it."""
        needs = self._counted.get("default", set()) - {"cache_page"}
        where = self._needing()
        if needs and where and self._complete:
            module, setting, name = where
            place = module.place(setting, name)
            why = f"`{name}` needs a cache and CACHES is nowhere set ({self._because(needs)}): Django's default is one in the memory of each process"
            severity = Severity.ERROR if self._sessions_cached else None
            yield Hit("SK1203", place, why, SHARED_CACHE, severity=severity, evidence=("CACHES is absent",))

    @property
    def _complete(self) -> bool:
        """Whether this is a project's settings, not a fragment of them."""
        names = {one.name for module in self.chain.modules for one in module.settings if not one.owner}
        return len(names & MARKS) >= 2

    def _needing(self) -> tuple[Module, Setting | Called, str] | None:
        if self._sessions_cached:
            module, setting, _ = self.chain.last("SESSION_ENGINE")[-1]
            return module, setting, setting.name
        if self._throttled:
            module, setting, _ = self.chain.last("REST_FRAMEWORK")[-1]
            return module, setting, setting.name
        for module in self.ground.modules:
            for call in module.called("ratelimit"):
                if call.callee.startswith(("django_ratelimit", "ratelimit.")):
                    return module, call, "ratelimit"
        return None

    # -- who relies on it -------------------------------------------------------------------------------

    @cached_property
    def _sessions_cached(self) -> bool:
        return any(
            CACHED_SESSIONS.search(text_of(option.node))
            for module, setting, _ in self.chain.last("SESSION_ENGINE")
            for option in options(module, setting.value, setting)
        )

    @cached_property
    def _throttled(self) -> bool:
        return any(
            "THROTTLE" in ast.unparse(setting.value) for _, setting, _ in self.chain.last("REST_FRAMEWORK")
        )

    @cached_property
    def _counted(self) -> dict[str, set[str]]:
        """Aliases that something counts or signs in with: there a dummy is wrong as well."""
        found: dict[str, set[str]] = {}
        if self._sessions_cached:
            found.setdefault(self._text("SESSION_CACHE_ALIAS") or "default", set()).add("sessions")
        if self._throttled:
            found.setdefault("default", set()).add("throttles")
        if self.ground.imports("django_ratelimit", "ratelimit"):
            found.setdefault(self._text("RATELIMIT_USE_CACHE") or "default", set()).add("django-ratelimit")
        if "cache" in self._text("AXES_HANDLER").lower():
            found.setdefault(self._text("AXES_CACHE") or "default", set()).add("django-axes")
        return found

    @cached_property
    def _needs(self) -> set[str]:
        found = {need for needs in self._counted.values() for need in needs}
        origins = {
            origin for one in self.ground.files if not offstage(one.path) for origin in one.imports.values()
        }
        if origins & {"django.core.cache.cache", "django.core.cache.caches", "django.core.cache"}:
            found.add("the code's own `cache`")
        if any(origin.endswith(".cache_page") for origin in origins):
            found.add("cache_page")
        return found

    def _because(self, needs: set[str]) -> str:
        return f"{' and '.join(sorted(needs))} rel{'y' if len(needs) > 1 else 'ies'} on it"

    def _text(self, name: str) -> str:
        texts = [text_of(o.node) for m, s, _ in self.chain.last(name) for o in options(m, s.value, s)]
        return next(filter(None, texts), "")

    # -- CHANNEL_LAYERS, SESSION_ENGINE -----------------------------------------------------------------

    def _channels(self) -> Iterator[Hit]:
        backends = [one for place in self.chain.last("CHANNEL_LAYERS") for one in self._backends(*place)]
        local = [one for one in backends if MEMORY.search(one.text)]
        for one in local[:1]:
            certainty = (
                one.certainty if len(local) == len(backends) else min(one.certainty, Certainty.DEFAULT)
            )
            why = f"`{one.place.name}` is an in-memory channel layer: a message for a group reaches the sockets of one process only"
            rule = "SK1205" if certainty is Certainty.PLAIN else "SK1211"
            yield Hit(rule, one.place, why, SHARED_CHANNELS, SURE[certainty], evidence=(one.text,))

    def _files(self) -> Iterator[Hit]:
        for module, setting, certainty in self.chain.last("SESSION_ENGINE"):
            if text_of(setting.value).endswith("sessions.backends.file"):
                many = self.ground.running.spread
                place = Place(module.path, setting.line, setting.name)
                why = f"`{setting.name}` keeps sessions in files of one machine: a visitor is a stranger to every other pod"
                sure = SURE[certainty if many else min(certainty, Certainty.DEFAULT)]
                yield Hit(
                    "SK1204",
                    place,
                    why,
                    'SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"',
                    sure,
                    severity=None if many else Severity.WARNING,
                )


def _weakened(one: Backend) -> Backend:
    return replace(one, certainty=min(one.certainty, Certainty.DEFAULT))


def _place(module: Module, setting: Setting, option: Option) -> Place:
    return module.place(option.setting or setting)


def _by_place(backends: list[Backend]) -> dict[tuple[str, int], list[Backend]]:
    found: dict[tuple[str, int], list[Backend]] = {}
    for one in backends:
        found.setdefault((one.place.path, one.place.line), []).append(one)
    return found
