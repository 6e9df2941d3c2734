"""The session stores, each driven without its framework."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any

from benchmarks.bench import Lab

DATA: dict[str, Any] = {"user_id": 7, "items": ["apple", "pear"], "csrf": "k3" * 16, "visits": 0}


@dataclass(frozen=True, slots=True)
class Store:
    """A session store, driven without its framework: open a session, save it, end it."""

    name: str
    open: Callable[[str], Any]
    save: Callable[[Any], Any]
    destroy: Callable[[Any], Any]
    new: Callable[[], str]
    """Store a session holding DATA; returns what its cookie would carry."""


def statekit(sessions: Any) -> Store:
    def new() -> str:
        session = sessions.open(None)
        session.update(DATA)
        sessions.save(session)
        return str(session.id)

    return Store("statekit", sessions.open, sessions.save, sessions.destroy, new)


async def begun(sessions: Any) -> str:
    session = await sessions.open(None)
    session.update(DATA)
    await sessions.save(session)
    return str(session.id)


def flask_session(lab: Lab, client: Any = None) -> Store:
    """Its Redis store, msgpack (its default). https://flask-session.readthedocs.io/en/latest/config.html"""
    from flask import Flask
    from flask_session.redis import RedisSessionInterface

    client = client or lab.client()
    interface = RedisSessionInterface(Flask("bench"), client)
    fresh, lifetime = count(1), timedelta(days=31)  # Flask's PERMANENT_SESSION_LIFETIME

    class Held(dict[str, Any]):
        key = ""

    def load(key: str) -> Held:
        held = Held(interface._retrieve_session_data(key) or {})  # noqa: SLF001 - no public name without a request
        held.key = key
        return held

    def save(held: Held) -> None:
        interface._upsert_session(lifetime, held, held.key)  # noqa: SLF001 - same

    def new() -> str:
        held = Held(DATA)
        held.key = lab.name(f"session:{next(fresh)}")
        save(held)
        return held.key

    return Store("Flask-Session", load, save, lambda held: interface._delete_session(held.key), new)  # noqa: SLF001


def starsessions(lab: Lab, client: Any = None) -> tuple[Any, str]:
    """Its Redis store and JSON (its default). https://github.com/alex-oleshkevich/starsessions (README)"""
    from starsessions.serializers import JsonSerializer
    from starsessions.stores.redis import RedisStore

    store, serializer, fresh = RedisStore(connection=client or lab.async_client()), JsonSerializer(), count(1)

    class Held(dict[str, Any]):
        key = ""

    async def load(key: str) -> Held:
        held = Held(serializer.deserialize(await store.read(key, 7200)))
        held.key = key
        return held

    async def save(held: Held) -> None:
        await store.write(held.key, serializer.serialize(held), 7200, 7200)

    async def new() -> str:
        held = Held(DATA)
        held.key = lab.name(f"star{next(fresh)}")
        await save(held)
        return held.key

    def destroy(held: Held) -> Awaitable[None]:
        return store.remove(held.key)

    return Store("starsessions", load, save, destroy, new), lab.run(new())  # type: ignore[arg-type]


def blocking(lab: Lab, store: Any) -> Store:
    """A store for asyncio, each step awaited at once."""
    return Store(
        store.name,
        lambda cookie: lab.run(store.open(cookie)),
        lambda session: lab.run(store.save(session)),
        lambda session: lab.run(store.destroy(session)),
        lambda: lab.run(store.new()),
    )
