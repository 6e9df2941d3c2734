"""What to write instead: a few lines with this library's public names, under the names the project already uses.

`kit` is a `StateKit` (or `AsyncStateKit` where those who change the state are coroutines), `redis` a client of
redis-py: for what has no primitive of its own, the standard thing is a key with a lifetime. tests/audit/test_output.py
runs an example of each.
"""

from __future__ import annotations

from collections.abc import Callable

from statekit.audit.advice.spelling import expression, plain, shown
from statekit.audit.advice.subject import Subject
from statekit.audit.advice.weight import NUMBERING, everywhere, receives
from statekit.audit.facts import Value
from statekit.audit.model import Category
from statekit.audit.natures import Nature

__all__ = ["replacement"]

ENGINES = {"create_engine", "create_async_engine", "engine_from_config"}
POOLS = {"create_pool", "AsyncConnectionPool"}
REDIS = {"Redis", "StrictRedis", "from_url", "ConnectionPool"}
ONCE_ONLY = (
    "otp",
    "otps",
    "nonce",
    "nonces",
    "states",
    "state",
    "code",
    "codes",
    "pending",
    "verification",
    "captcha",
    "captchas",
    "challenge",
    "challenges",
    "csrf",
    "verifier",
)
HISTORIES = (
    "history",
    "histories",
    "conversation",
    "conversations",
    "chat",
    "chats",
    "messages",
    "memory",
    "memories",
)
OF_PYDANTIC = {"copy", "json", "dict", "schema", "fields", "construct", "validate", "register"}


def replacement(subject: Subject) -> str:
    """The lines to write."""
    return "\n".join(_EXAMPLES[subject.category](_Names(subject)))


class _Names:
    """What an example may mention."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.at = subject.kebab
        self.var = subject.snake
        self.wait = "await " if subject.is_async else ""
        self.using = "async with" if subject.is_async else "with"

    def key(self, fallback: str) -> str:
        """By what it is kept."""
        return self.subject.keys[0] if self.subject.keys else fallback

    def value(self, fallback: str) -> str:
        """What is written, where that is a plain name."""
        for change in self.subject.verdict.changes:
            value = change.write.value
            spelt = expression(value.text) if value and value.kind == "chain" else ""
            if spelt and spelt.partition(".")[0] not in {"self", "cls"}:
                return spelt
        return fallback

    def place(self, fallback: str = "") -> str:
        """The key in the store, as an f-string if it is one of many."""
        key = self.key(fallback)
        return f'f"{self.at}:{{{key}}}"' if key else f'"{self.at}"'


# -- limits, flags, settings, sessions: what the kit has primitives for -------------------------------------------


def _limiter(names: _Names) -> list[str]:
    if Nature.LOCK in names.subject.natures:
        return _held(names)
    key = names.subject.caller or '"all"'
    return [
        f'{names.var} = kit.rate_limiter("{names.at}", "5/minute")  # the limit you have now',
        f"decision = {names.wait}{names.var}.hit({key})",
        "if not decision.allowed:",
        "    wait = decision.retry_after  # answer 429 with decision.headers()",
    ]


def _flag(names: _Names) -> list[str]:
    flag = names.key(f'"{names.at}"')
    return [
        f'{names.wait}kit.flags.set({flag}, Flag(enabled=True), by="ann")  # in every process, with a history',
        f"if kit.flags.enabled({flag}):  # local: no round trip",
        "    ...",
    ]


def _config(names: _Names) -> list[str]:
    subject = names.subject
    if subject.shape == "decorator":
        return _settings(names, '"app"', "option")
    many = bool(subject.keys)
    field = next(iter(subject.fields), "") or ("settings" if many else names.var)
    return _settings(names, names.key('"app"'), field)


def _settings(names: _Names, tenant: str, field: str) -> list[str]:
    field = field.lower()
    field = f"{field}_" if field in OF_PYDANTIC or field.startswith("model_") else field
    kind, default, new = _typed(names, field)
    read = f"(await tenants.get({tenant}))" if names.wait else f"tenants.get({tenant})"
    return [
        "class Settings(TenantSettings):",
        f"    {field}: {kind} = {default}",
        "tenants = kit.tenants(Settings)",
        f'{names.wait}tenants.update({tenant}, {{"{field}": {new}}}, by="ann")  # reaches every process',
        f"now = {read}.{field}  # frozen: nobody changes it by accident",
    ]


def _typed(names: _Names, field: str) -> tuple[str, str, str]:
    """Type, default and new value of a setting, guessed from what it is first bound to."""
    values = [value for _, value in names.subject.state.values]
    inner = [value for one in values for key, value in one.named if plain(key).lower() == field]
    first = next((one.text for one in [*inner, *values] if one.kind == "const"), "")
    if first in {"True", "False"}:
        return "bool", first, str(first == "False")
    if first.isdigit() and len(first) < 10:
        return "int", str(int(first)), str(int(first) + 1)
    fits = first.isascii() and not set(first) & {'"', "\\"}
    return "str", f'"{shown(first) if fits else ""}"', '"…"'


def _session(names: _Names) -> list[str]:
    subject = names.subject
    if subject.has(*ONCE_ONLY) or (
        subject.has("token", "tokens") and not subject.has("session", "sessions", "user", "users")
    ):
        return [
            f"{names.wait}redis.set({names.place('key')}, {names.value('value')}, ex=600)  # redis: a redis-py client",
            f"found = {names.wait}redis.getdel({names.place('key')})  # for whoever comes first, in whichever process",
        ]
    if subject.has(*HISTORIES):
        return [
            f"key = {names.place('conversation_id')}",
            f"{names.wait}redis.rpush(key, json.dumps({subject.item or 'message'}))  # redis: a redis-py client",
            f"{names.wait}redis.expire(key, 86400)",
            f"so_far = [json.loads(one) for one in {names.wait}redis.lrange(key, 0, -1)]",
        ]
    field = next(iter(subject.fields), "") or "user_id"
    return [
        "sessions = kit.sessions(idle=7200, absolute=43200)",
        f"session = {names.wait}sessions.open(cookie)  # the cookie holds a random id and nothing else",
        f'session["{field}"] = {_stored(names, field)}  # text, numbers, lists, dicts; of an object its id',
        f"{names.wait}sessions.save(session)",
    ]


def _stored(names: _Names, field: str) -> str:
    return plain(field) if names.subject.fields else names.value("user_id")


# -- clients ---------------------------------------------------------------------------------------------------------


def _client(names: _Names) -> list[str]:
    made = names.subject.made_by
    last = made.text.rpartition(".")[2] if made else ""
    if last in ENGINES:
        return _engine(names, last)
    if last in REDIS:
        return _redis(names)
    if last in POOLS and made:
        return [
            f"{names.var} = {expression(made.text)}(DSN, max_size=5)  # times N workers is what the database sees"
        ]
    if receives(names.subject):
        return _alone(names, f"{names.var}.run()")
    name = plain("client" if names.subject.shape == "decorator" else names.var)
    return [
        f'kit.pools.register("{names.at}", open=lambda: {_called(made, names)}, per_process=4, fleet=12)',
        f'{names.using} kit.pools.checkout("{names.at}") as {name}:  # opened when first needed, after the fork',
        "    ...",
    ]


def _called(made: Value | None, names: _Names) -> str:
    """The constructor as the project calls it; ``...`` stands for its arguments."""
    chain = expression(made.text) if made else ""
    if not made or not chain:
        return f"make_{names.var}()"
    return f"{chain}(...)" if made.size or made.parts or made.named else f"{chain}()"


def _engine(names: _Names, last: str) -> list[str]:
    inner = ".sync_engine" if "async" in last else ""
    return [
        f"{names.var} = {last}(DATABASE_URL, pool_size=5, max_overflow=0)  # times N workers is what the database sees",
        f"os.register_at_fork(after_in_child=lambda: {names.var}{inner}.dispose(close=False))  # no socket is shared",
    ]


def _redis(names: _Names) -> list[str]:
    return [
        f"{names.var} = Redis.from_url(REDIS_URL, max_connections=10)  # times N workers is what the server sees",
        f"kit = StateKit({names.var})  # may use the same connections",
    ]


# -- work ---------------------------------------------------------------------------------------------------------------


def _alone(names: _Names, start: str) -> list[str]:
    """One process of the fleet does it; another takes over."""
    return [
        f'leader = kit.in_flight("{names.at}", 1)',
        f'while not (mine := {names.wait}leader.acquire("leader", timeout=30)):',
        "    pass  # another process does it; this one takes over when that one is gone",
        start,
    ]


def _background(names: _Names) -> list[str]:
    subject = names.subject
    if everywhere(subject):
        loop = "loop" in subject.verdict.reason
        return _alone(names, (_ran(subject) or f"{names.var}()") if loop else f"{names.var}.start()")
    key = names.key("job_id")
    if subject.keys and not subject.natures & {Nature.EXECUTOR, Nature.THREAD, Nature.TASK, Nature.PROCESS}:
        return [
            f'{names.wait}redis.set(f"{names.at}:{{{key}}}", "running", ex=86400)  # redis: a redis-py client',
            f'how_far = {names.wait}redis.get(f"{names.at}:{{{key}}}")  # whichever process is asked',
        ]
    return [
        f'{names.wait}redis.xadd("{names.at}", {{"job": {key}}}, maxlen=100_000)  # or your job queue: Celery, RQ, arq',
        f'{names.wait}redis.set(f"{names.at}:{{{key}}}", "queued", ex=86400)  # how far it is, for whoever is asked',
    ]


def _ran(subject: Subject) -> str:
    """What the thread or task runs, called outright."""
    spelt = expression(subject.state.annotation.removesuffix("()"))
    wait = "await " if subject.state.annotation.endswith("()") and subject.is_async else ""
    return f"{wait}{spelt}(...)" if spelt else ""


def _held(names: _Names) -> list[str]:
    made = names.subject.made_by
    given = made.parts[0].text if made and made.parts and made.parts[0].kind == "const" else ""
    many = given if given.isdigit() and len(given) < 6 else "1"
    key = names.key('"all"')
    return [
        f'{names.var} = kit.in_flight("{names.at}", {many})',
        f"{names.using} {names.var}.hold({key}, timeout=5):  # {many} at once in the whole fleet",
        "    ...",
    ]


# -- what Redis itself is for ------------------------------------------------------------------------------------------


def _memo(names: _Names) -> list[str]:
    subject = names.subject
    load, given = _loader(subject)
    place = f'f"{names.at}:{":".join(f"{{{one}}}" for one in given)}"' if given else f'"{names.at}"'
    return [
        f"kept = {names.wait}redis.get({place})  # redis: a redis-py client",
        f"value = json.loads(kept) if kept else {load}",
        f"{names.wait}redis.set({place}, json.dumps(value), ex=60)  # and redis.delete(…) where it changes",
    ]


def _loader(subject: Subject) -> tuple[str, list[str]]:
    """The call that gives the value, and the arguments it depends on."""
    function = subject.state.function
    if function is None:
        key = subject.keys[:1]
        return f"load({''.join(key)})", key
    given = [plain(name) for name, _ in function.facts.params if name not in {"self", "cls"}]
    wait = "await " if subject.is_async else ""
    return f"{wait}{plain(function.last)}({', '.join(given[:3])})", given[:3]


def _connections(names: _Names) -> list[str]:
    key = names.key("room")
    return [
        f'{names.wait}redis.publish(f"{names.at}:{{{key}}}", message)  # every process hears it, and tells its own sockets',
        f'{names.wait}redis.set(f"online:{{{key}}}", 1, ex=60)  # who is there; renewed by whoever holds the socket',
    ]


def _counter(names: _Names) -> list[str]:
    if names.subject.keys:
        return [
            f'total = {names.wait}redis.hincrby("{names.at}", {names.subject.keys[0]}, 1)  # one step for all processes'
        ]
    comment = "a number nobody else gets" if names.subject.has(*NUMBERING) else "one step for all processes"
    return [f'{names.var} = {names.wait}redis.incr("{names.at}")  # {comment}; redis: a redis-py client']


def _events(names: _Names) -> list[str]:
    if names.subject.natures & {Nature.SIGNAL, Nature.EVENT}:
        return [
            f'{names.wait}redis.publish("{names.at}", message)  # redis: a redis-py client',
            "subscription = redis.pubsub()",
            f'{names.wait}subscription.subscribe("{names.at}")  # in each process that wants to hear it',
        ]
    return [
        f'{names.wait}redis.xadd("{names.at}", {{"item": {names.subject.item or "item"}}}, maxlen=100_000)  # redis: a redis-py client',
        f'{names.wait}redis.xgroup_create("{names.at}", "workers", id="0", mkstream=True)  # once, at start-up',
        f'batch = {names.wait}redis.xreadgroup("workers", worker, {{"{names.at}": ">"}}, count=10)  # then redis.xack(…)',
    ]


def _other(names: _Names) -> list[str]:
    if names.subject.members and names.subject.keys:
        one = names.subject.keys[0]
        return [
            f'{names.wait}redis.sadd("{names.at}", {one})  # redis: a redis-py client',
            f'if {names.wait}redis.sismember("{names.at}", {one}):',
            "    ...",
        ]
    place = names.place()
    return [
        f"{names.wait}redis.set({place}, json.dumps({names.value('value')}), ex=86400)  # redis: a redis-py client",
        f'{names.var} = json.loads({names.wait}redis.get({place}) or "null")',
    ]


_EXAMPLES: dict[Category, Callable[[_Names], list[str]]] = {
    Category.RATE_LIMITER: _limiter,
    Category.FLAG_CACHE: _flag,
    Category.CLIENT_POOL: _client,
    Category.TENANT_CONFIG: _config,
    Category.SESSION_STORE: _session,
    Category.MEMO_CACHE: _memo,
    Category.BACKGROUND_WORKER: _background,
    Category.CONNECTION_MANAGER: _connections,
    Category.LOCK: _held,
    Category.COUNTER: _counter,
    Category.EVENT_BUS: _events,
    Category.MISCONFIG: _other,
    Category.OTHER_SINGLETON: _other,
}
