"""What names say: the words of an identifier, and which category each hints at."""

from __future__ import annotations

import re
from collections.abc import Iterable

from statekit.audit.model import Category

__all__ = ["hinted", "words_of"]

_SPLIT = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

HINTS: tuple[tuple[Category, frozenset[str]], ...] = (
    (Category.LOCK, frozenset("lock locks mutex semaphore semaphores sem".split())),
    (
        Category.RATE_LIMITER,
        frozenset("limit limiter limits ratelimit ratelimiter rate throttle throttles throttled throttler attempt attempts quota quotas cooldown cooldowns backoff bucket buckets hits failures blocked bans strikes flood debounce".split()),
    ),
    (
        Category.SESSION_STORE,
        frozenset("session sessions sess token tokens otp otps nonce nonces state states captcha captchas login logins logged conversation conversations chat chats history histories pending verification codes code challenge challenges csrf cookie cookies auth oauth context contexts users user wizard dialog thread_ids memory memories messages".split()),
    ),
    (Category.FLAG_CACHE, frozenset("flag flags feature features toggle toggles experiment experiments rollout maintenance killswitch switches".split())),
    (
        Category.CONNECTION_MANAGER,
        frozenset("connection connections websocket websockets socket sockets ws peers clients sids sid rooms room presence online consoles terminals viewers connected".split()),
    ),
    (
        Category.EVENT_BUS,
        frozenset("queue queues subscriber subscribers subscription subscriptions listener listeners bus event events signal signals observers watchers pubsub channels channel inbox mailbox streams stream broker topics callbacks notifications".split()),
    ),
    (
        Category.BACKGROUND_WORKER,
        frozenset("task tasks job jobs worker workers thread threads process processes procs executor scheduler schedulers future futures running runs poller pollers monitor timers timer pool downloads progress loops run background daemon status statuses".split()),
    ),
    (Category.MEMO_CACHE, frozenset("cache caches cached memo memoized lookup index indexes snapshot snapshots loaded resolved fetched known stale ttl lru".split())),
    (
        Category.TENANT_CONFIG,
        frozenset("config configs configuration configurations setting settings tenant tenants org orgs options option prefs preferences conf cfg site sites theme default defaults mode env parameters params".split()),
    ),
    (Category.COUNTER, frozenset("count counts counter counters seq sequence total totals num number stats stat statistics metrics ids id next usage".split())),
    (
        Category.CLIENT_POOL,
        frozenset("client engine pool db database driver redis conn http requests api mongo producer bot browser model models pipeline pipelines llm provider providers".split()),
    ),
)  # fmt: skip


def words_of(name: str) -> list[str]:
    """The words of an identifier, in lower case: ``_activeWSRooms`` is active, ws, rooms."""
    return [word.lower() for word in _SPLIT.findall(name)]


def hinted(names: Iterable[tuple[str, float]]) -> dict[Category, float]:
    """How strongly names, each with its weight, hint at each category. The last word of a name says most."""
    found: dict[Category, float] = {}
    for name, weight in names:
        words = words_of(name)
        for at, word in enumerate(words):
            last = 1.5 if at == len(words) - 1 else 1.0
            for category, hints in HINTS:
                if word in hints:
                    found[category] = found.get(category, 0.0) + weight * last
    return found
