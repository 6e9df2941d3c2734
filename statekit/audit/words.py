"""What names say: the words of an identifier, and which category each hints at."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from statekit.audit.model import Category

__all__ = ["hinted", "words_of"]

_SPLIT = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

STRONG: dict[Category, str] = {
    Category.LOCK: "lock locks mutex semaphore semaphores inflight busy lease leases claims claimed reserved reservations mutexes",
    Category.RATE_LIMITER: "limiter limiters ratelimit ratelimiter throttle throttles throttled throttler throttling attempt attempts quota quotas "
    "cooldown cooldowns backoff debounce flood bans banned strikes penalty breaker",
    Category.SESSION_STORE: "session sessions sess otp otps nonce nonces captcha captchas login logins conversation conversations cookie cookies "
    "csrf token tokens oauth challenge challenges sso ticket tickets verification chats",
    Category.FLAG_CACHE: "flag flags feature features toggle toggles experiment experiments rollout maintenance killswitch paused restarting",
    Category.CONNECTION_MANAGER: "connection connections websocket websockets socket sockets ws peers sids sid rooms room presence online "
    "viewers connected sse spectators",
    Category.EVENT_BUS: "queue queues subscriber subscribers subscription subscriptions listener listeners bus pubsub inbox mailbox outbox broker "
    "topics waiters observers webhooks letters buffers",
    Category.BACKGROUND_WORKER: "task tasks job jobs workers thread threads process processes processing procs executor scheduler schedulers "
    "future futures running runs poller pollers daemon downloads spawned timer timers loop greenlet greenlets cancellation progress",
    Category.MEMO_CACHE: "cache caches cached memo memoized lru ttl snapshot prefetched",
    Category.TENANT_CONFIG: "config configs configuration configurations setting settings tenant tenants conf cfg preferences prefs options",
    Category.COUNTER: "count counts counter counters seq sequence total totals",
    Category.CLIENT_POOL: "client engine engines pool db database driver redis http mongo producer browser requests",
}  # fmt: skip
WEAK: dict[Category, str] = {
    Category.RATE_LIMITER: "limit limits rate bucket buckets hits failures blocked failed window retry",
    Category.SESSION_STORE: "auth user users chat history histories contexts messages memory code codes pending "
    "dialog wizard thread_ids logged",
    Category.FLAG_CACHE: "enabled disabled switch mode",
    Category.CONNECTION_MANAGER: "clients active consoles terminals containers processes handles",
    Category.EVENT_BUS: "event events signal signals channel channels stream streams notification notifications buffer callbacks hooks messages telemetry trace traces chunks errors warnings filters pending",
    Category.BACKGROUND_WORKER: "status statuses worker monitor monitors pending active started run background download spawn schedule",
    Category.MEMO_CACHE: "lookup index indexes loaded resolved fetched known seen by types map data documents entries all stats",
    Category.TENANT_CONFIG: "org orgs option site sites theme default defaults env params parameters models endpoints registry rules provider providers policy policies names labels allowed permissions validators whitelist blacklist denylist allowlist",
    Category.COUNTER: "stat stats statistics number num next usage metrics",
    Category.CLIENT_POOL: "conn session sessions api bot model pipeline llm clients connector connection",
}  # fmt: skip


def _hints(words: dict[Category, str], weight: float) -> dict[str, list[tuple[Category, float]]]:
    found: dict[str, list[tuple[Category, float]]] = {}
    for category, spelt in words.items():
        for word in spelt.split():
            found.setdefault(word, []).append((category, weight))
    return found


_HINTS = _hints(WEAK, 0.4)
for _word, _categories in _hints(STRONG, 1.0).items():
    _HINTS.setdefault(_word, []).extend(_categories)


def words_of(name: str) -> list[str]:
    """The words of an identifier, in lower case: ``_activeWSRooms`` is active, ws, rooms."""
    return list(_words(name))


@lru_cache(1 << 14)
def _words(name: str) -> tuple[str, ...]:
    return tuple([word.lower() for word in _SPLIT.findall(name)])


def hinted(names: Iterable[tuple[str, float]]) -> dict[Category, float]:
    """How strongly names, each with its weight, hint at each category. The last word of a name says most."""
    found: dict[Category, float] = {}
    for name, weight in names:
        words = words_of(name)
        for at, word in enumerate(words):
            last = 1.3 if at == len(words) - 1 else 1.0
            for category, strength in _HINTS.get(word, ()):
                found[category] = found.get(category, 0.0) + weight * last * strength
    return found
