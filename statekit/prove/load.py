"""The load's process: ``python -m statekit.prove.load``: locust with the user's own locustfile, every answer kept.

Three things are done to locust before it starts. Each request goes to the next pod in rotation, over a connection
of its own, as behind a plain reverse proxy. Each visitor draws its random numbers from a source of its own, seeded by
its class and number, so that the same visitor takes the same steps in every run. Each answer is written down.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import Any

from statekit.prove.balancer import Rotation
from statekit.prove.declared import told_to
from statekit.prove.paths import endpoint_of
from statekit.prove.records import Answer, Judgement, Seen

__all__ = ["main"]

DRAWS = (
    "random", "uniform", "triangular", "randint", "randrange", "choice", "choices", "sample", "shuffle", "gauss",
    "normalvariate", "lognormvariate", "expovariate", "betavariate", "gammavariate", "paretovariate", "weibullvariate",
    "vonmisesvariate", "getrandbits", "randbytes",
)  # fmt: skip
LARGEST = 64 * 1024
"""Bytes of a JSON answer that are compared field by field; of a larger one a digest is."""


class Recorder:
    """Keeps what the visitors see."""

    def __init__(self, rotation: Rotation) -> None:
        self.seen = Seen()
        self.rotation = rotation
        self._steps: Counter[str] = Counter()
        self._latest: dict[str, str] = {}
        self.current: Callable[[], str] = lambda: ""

    def request(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A client's `request` that goes to the next pod and keeps the answer."""

        def request(
            client: Any, method: str, url: str, name: str | None = None, *rest: Any, **named: Any
        ) -> Any:
            pod = "" if "://" in str(url) else self.rotation.next()
            name = name or getattr(client, "request_name", None) or str(url)
            named["headers"] = {"Connection": "close", **(named.get("headers") or {})}
            user = getattr(client.user, "prove_name", "")
            sent = time.monotonic()
            response = original(client, method, f"{pod}{url}", name, *rest, **named)
            kept = not (named.get("stream") or not pod)
            self._keep(sent, user, endpoint_of(str(method), name), pod, response, kept)
            return response

        return request

    def _keep(self, sent: float, user: str, endpoint: str, pod: str, response: Any, kept: bool) -> None:
        received, step = time.monotonic(), self._steps[user]
        self._steps[user] += 1
        self._latest[user] = endpoint
        document = read(response.content or b"") if kept else None
        status = int(response.status_code or 0)
        self.seen.answers.append(Answer(sent, received, user, step, endpoint, status, pod, document))

    def judged(self, name: str, held: bool, of: str) -> None:
        """Keep the outcome of an invariant."""
        user = self.current()
        self.seen.judgements.append(Judgement(name, held, of or self._latest.get(user, ""), user))

    def reported(self, request_type: str, name: str, exception: Any = None, **_: Any) -> None:
        """Keep what the locustfile itself calls a failure; locust's own opinion on 4xx is not asked."""
        if exception is not None and type(exception).__name__ == "CatchResponseError":
            endpoint, detail = endpoint_of(request_type, name), str(exception)[:200]
            found = Judgement("", held=False, endpoint=endpoint, user=self.current(), detail=detail)
            self.seen.judgements.append(found)


def read(content: bytes) -> Any:
    """An answer's body: its JSON, or a digest."""
    try:
        return json.loads(content) if len(content) <= LARGEST else _digest(content)
    except ValueError:
        return _digest(content)


def _digest(content: bytes) -> dict[str, str]:
    return {"(body)": blake2b(content, digest_size=8).hexdigest()} if content else {}


def install(recorder: Recorder, seed: int) -> None:
    """Change locust's clients and visitors, and where visitors' random numbers come from."""
    locust: Any = import_module("locust")  # an extra, and this process alone needs it
    clients = (
        import_module("locust.clients").HttpSession,
        import_module("locust.contrib.fasthttp").FastHttpSession,
    )
    seats: Any = import_module("gevent.local").local()
    others = random.Random(seed)  # noqa: S311 - a load, not a secret
    for name in DRAWS:
        setattr(random, name, _drawing(name, lambda: getattr(seats, "dice", others)))
    for client in clients:
        client.request = recorder.request(client.request)
    numbers: dict[type, Any] = {}
    init, run = locust.User.__init__, locust.User.run

    def numbered(user: Any, *rest: Any, **named: Any) -> None:
        kind = type(user)
        user.prove_name = f"{kind.__name__}-{next(numbers.setdefault(kind, itertools.count(1)))}"
        init(user, *rest, **named)

    def seated(user: Any) -> None:
        seats.dice, seats.name = random.Random(f"{seed}:{user.prove_name}"), user.prove_name  # noqa: S311
        run(user)

    locust.User.__init__, locust.User.run = numbered, seated
    recorder.current = lambda: getattr(seats, "name", "")
    locust.events.request.add_listener(recorder.reported)


def _drawing(name: str, dice: Callable[[], random.Random]) -> Callable[..., Any]:
    def draw(*given: Any, **named: Any) -> Any:
        return getattr(dice(), name)(*given, **named)

    return draw


def main() -> None:
    """Wait for the pods, then run locust."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rotation", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--begun", type=Path, required=True)
    given, rest = parser.parse_known_args()
    events, locust = import_module("locust").events, import_module("locust.main")
    recorder = Recorder(Rotation(given.rotation))
    install(recorder, given.seed)
    declared = told_to(recorder.judged)

    def quitting(**_: Any) -> None:
        recorder.seen.at_most, recorder.seen.ignored = declared.at_most, declared.ignored
        recorder.seen.save(given.out)

    events.quitting.add_listener(quitting)
    events.test_start.add_listener(lambda **_: given.begun.touch())
    while not given.rotation.exists():
        time.sleep(0.02)
    sys.argv = ["locust", *rest]
    locust.main()


if __name__ == "__main__":
    main()
