"""Keys made up when a process starts: what one process signs, the next one refuses."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from statekit.audit.deploy.found import Hit, Place
from statekit.audit.deploy.gate import CONFIGURED, SECRET
from statekit.audit.deploy.ground import Ground, developing
from statekit.audit.deploy.look import Called, Module, Setting, followed
from statekit.audit.deploy.options import Certainty, branch_of, options, text_of
from statekit.audit.deploy.urls import SURE
from statekit.audit.facts import Function
from statekit.audit.reading.chains import spell

__all__ = ["secret_hits"]

ENTROPY = frozenset(
    [
        "os.urandom",
        "secrets.token_hex",
        "secrets.token_urlsafe",
        "secrets.token_bytes",
        "secrets.choice",
        "uuid.uuid4",
        "uuid.uuid1",
        "random.choice",
        "random.choices",
        "random.getrandbits",
        "random.randint",
        "random.SystemRandom",
        "random.random",
        "numpy.random.choice",
        "np.random.choice",
        "cryptography.fernet.Fernet.generate_key",
        "django.core.management.utils.get_random_secret_key",
        "nacl.utils.random",
        "django.utils.crypto.get_random_string",
        "random.sample",
    ]
)
KEPT = frozenset(
    [
        "open",
        "write",
        "write_text",
        "write_bytes",
        "read_text",
        "read_bytes",
        "save",
        "commit",
        "execute",
        "dump",
        "setex",
        "setnx",
        "chmod",
        "get_or_create",
        "exists",
        "load",
        "is_file",
        "isfile",
        "insert",
        "set",
        "update_or_create",
        "get_secret_value",
        "safe_dump",
        "set_secret",
        "putenv",
    ]
)
"""Calls of a function that keeps its key for the next start."""
KEYED = re.compile(r"secret|cookie|_key\b", re.IGNORECASE)
DEFAULTING = {"default", "default_value", "default_factory"}
TAKERS = {"secret_key", "cookie_secret", "session_secret", "jwt_secret", "secret"}


def secret_hits(ground: Ground) -> Iterator[Hit]:
    """Every key of the app that is random in each process."""
    for module in ground.modules:
        said: set[int] = set()
        if not KEYED.search(module.text):
            continue
        for hit in (*_settings(ground, module), *_arguments(ground, module)):
            if hit.place.line not in said:
                said.add(hit.place.line)
                yield hit


def _settings(ground: Ground, module: Module) -> Iterator[Hit]:
    for one in module.settings:
        if SECRET.match(one.name) and _of_the_app(one) and not _of_a_row(one) and not developing(one):
            certainty, source = _random(ground, module, one.value, one)
            if one.form == "name" and any(
                "Settings" in base for base in ground.class_bases(module.path, one.owner)
            ):
                certainty = Certainty.DEFAULT  # pydantic: the environment may say otherwise
            if source and not _kept(module, one):
                yield _hit(module.place(one), source, _certainty(module, one, certainty))


def _of_a_row(one: Setting) -> bool:
    """Whether each object has a value of its own: ``secret = Column(default=…)``, ``attr.ib(factory=…)``."""
    named = (spell(one.value.func) or "").rpartition(".")[2] if isinstance(one.value, ast.Call) else ""
    if named in {"ib", "attrib", "field", "Field"}:
        return not re.search(r"Settings|Config|Options", one.owner)
    return named in {"Column", "mapped_column"} or named.endswith("Field")


def _of_the_app(one: Setting) -> bool:
    """Whether the key is the app's: a row's or a user's own secret is meant to be random."""
    if one.form == "name":
        return not one.local
    if one.form == "attribute" and one.base == "self":
        return one.owner.endswith("__init__") and bool(
            re.search(r"key|^_?secret$|cookie|session", one.name, re.IGNORECASE)
        )
    if one.form == "entry":
        return not one.local and bool(re.search("key|cookie|session", one.name, re.IGNORECASE))
    return bool(CONFIGURED.search(one.base))


def _certainty(module: Module, one: Setting | Called, certainty: Certainty) -> Certainty:
    """Under a condition it is what is taken where nothing is configured, or one of several branches."""
    if branch_of(one.under) != "choice":
        return certainty
    itself = any(one.name and one.name.lower() in condition.text.lower() for condition in one.under)
    others = [other for other in module.settings if other.name == one.name and other.owner == one.owner]
    return min(certainty, Certainty.DEFAULT if itself or len(others) < 2 else Certainty.CHOICE)


def _arguments(ground: Ground, module: Module) -> Iterator[Hit]:
    """``SessionMiddleware(secret_key=…)``, ``define("cookie_secret", default=…)``."""
    for one in module.calls:
        for word in one.node.keywords:
            place = _argument(module, one, word)
            if place and not developing(one):
                certainty, source = _random(ground, module, word.value, None)
                if source and not _kept(module, one):
                    yield _hit(place, source, _certainty(module, one, certainty))


def _argument(module: Module, one: Called, word: ast.keyword) -> Place | None:
    """What an argument sets, if that is a key of the app."""
    if word.arg in DEFAULTING and one.node.args:
        name = text_of(one.node.args[0]).lstrip("-").replace("-", "_")
        fits = name != "secret" and bool(SECRET.match(name))
        return Place(module.path, one.node.lineno, name, one.owner) if fits else None
    if word.arg in TAKERS and _takes_key(one):
        return Place(module.path, word.value.lineno, word.arg, one.owner)
    return None


def _takes_key(one: Called) -> bool:
    return bool(re.search(r"Middleware|Application|Serializer|Strategy|Flask", ast.unparse(one.node)[:200]))


def _random(ground: Ground, module: Module, value: ast.expr, at: Setting | None) -> tuple[Certainty, str]:
    """What makes it random, and how certain that is to be used; '' if nothing does."""
    for option in options(module, value, at):
        if option.node is None or (option.setting not in (None, at) and not option.setting.local):
            continue  # the environment says it, or it is reported where it is spelt
        source = _entropy(ground, module, option.node)
        if source:
            most = Certainty.DEFAULT if source.endswith("?") else Certainty.PLAIN
            return min(option.certainty, most), source.rstrip("?")
    return Certainty.PLAIN, ""


def _entropy(ground: Ground, module: Module, node: ast.expr) -> str:
    """The call that is random; with a ``?`` where it has something else to give as well."""
    for one in ast.walk(node):
        if isinstance(one, ast.Call):
            spelt = spell(one.func) or ""
            dotted = module.dotted(spelt)
            if dotted in ENTROPY:
                return spelt
            function = ground.function(module, dotted) if dotted and not dotted.startswith("self.") else None
            if function and _makes_it_up(ground, module, function):
                return spelt if len(function.returns) < 2 else f"{spelt}?"
    return ""


def _makes_it_up(ground: Ground, module: Module, function: Function) -> bool:
    lasts = {chain.rpartition(".")[2] for chain in function.calls}
    if lasts & KEPT or function.within:
        return False
    home = next((one for one in ground.files if function in one.functions), module.facts)
    called = [followed(chain, home) for chain in function.calls]
    return any(one == source or one.startswith(source + "(") for one in called for source in ENTROPY)


def _kept(module: Module, one: Setting | Called) -> bool:
    """Whether what stands around it writes the key down for the next start, or reads what was written."""
    names = {_bare(one.name), "secret" if "secret" in one.name.lower() else _bare(one.name)} - {""}
    for other in module.calls:
        near = other.owner == one.owner and (one.local or not other.local)
        if near and other.spelt.rpartition(".")[2] in KEPT and not other.spelt.startswith("sys.std"):
            said = _bare(ast.unparse(other.node))
            if any(name in said for name in names):
                return True
    return False


def _bare(text: str) -> str:
    return text.replace("_", "").lower()


def _hit(place: Place, source: str, certainty: Certainty) -> Hit:
    fallback = "" if certainty is Certainty.PLAIN else " where none is configured"
    why = f"`{place.name}` is made up by `{source}()` in each process{fallback}: cookies and tokens that one worker signed are refused by the others, and by all after a restart"
    name = place.name.lstrip("_").upper()
    return Hit(
        "SK1208",
        place,
        why,
        f'{place.name} = os.environ["{name}"]  # one key for all processes; an error where it is missing',
        SURE[certainty],
        evidence=(f"{source}() at start-up",),
    )
