"""One session, many processes: nothing is lost, and nothing that ended comes back."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from statekit import AsyncStateKit, StateKit
from statekit.sessions import SaveOutcome
from statekit.store.outage import Budget
from tests.servers import at_length

PROCESSES, THREADS, WRITES = 4, 5, 50
PATIENT = Budget(decision=30, operation=30, connect=30)
SPAWN = multiprocessing.get_context("spawn")


def write_many(url: str, namespace: str, id_: str, process: int, gate: Any) -> None:
    """Open the session, set one key nobody else sets, save; again and again, on several threads."""
    with StateKit.connect(url, namespace, budget=PATIENT) as kit:
        sessions = kit.sessions(max_bytes=1_000_000)

        def write(thread: int) -> None:
            for number in range(WRITES):
                session = sessions.open(id_)
                session[f"{process}-{thread}-{number}"] = number
                assert sessions.save(session) is SaveOutcome.SAVED

        gate.wait(60)
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(write, range(THREADS)))


def write_until_gone(url: str, namespace: str, id_: str, gate: Any) -> None:
    """Save to the session until told that it is gone; then make sure that it stays so."""
    with StateKit.connect(url, namespace, budget=PATIENT) as kit:
        sessions = kit.sessions()
        session = sessions.open(id_)
        session["n"] = number = 0
        gate.wait(60)
        while sessions.save(session) is SaveOutcome.SAVED:
            number += 1
            session["n"] = number
        for _ in range(20):
            assert sessions.save(session) is SaveOutcome.GONE


def in_processes(
    work: Callable[..., None], arguments: list[tuple[Any, ...]], beside: Callable[[], None]
) -> None:
    """Run in processes that start together; all must end well."""
    gate = SPAWN.Barrier(len(arguments) + 1)
    processes = [SPAWN.Process(target=work, args=(*one, gate)) for one in arguments]
    for process in processes:
        process.start()
    try:
        gate.wait(60)
        beside()
        for process in processes:
            process.join(90)
        assert [process.exitcode for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()


def begun(sessions: Any) -> str:
    session = sessions.open(None)
    session["k"] = 1
    session.sign_in("user:7")
    sessions.save(session)
    return session.id


@at_length
def test_a_thousand_writes_to_different_keys_lose_none(server_url: str, namespace: str) -> None:
    with StateKit.connect(server_url, namespace, budget=PATIENT) as kit:
        sessions = kit.sessions(max_bytes=1_000_000)
        id_ = begun(sessions)
        arguments = [(server_url, namespace, id_, process) for process in range(PROCESSES)]
        in_processes(write_many, arguments, lambda: None)
        expected = {
            f"{process}-{thread}-{number}": number
            for process in range(PROCESSES)
            for thread in range(THREADS)
            for number in range(WRITES)
        }
        assert len(expected) == 1000
        assert dict(sessions.open(id_)) == {"k": 1, **expected}


async def test_a_thousand_tasks_lose_none(valkey_url: str, namespace: str) -> None:
    async with AsyncStateKit.connect(valkey_url, namespace, budget=PATIENT) as kit:
        sessions = kit.sessions()
        first = await sessions.open(None)
        first["k"] = 1
        await sessions.save(first)

        async def write(number: int) -> None:
            session = await sessions.open(first.id)
            session[f"{number}"] = number
            assert await sessions.save(session) is SaveOutcome.SAVED

        await asyncio.gather(*map(write, range(1000)))
        found = await sessions.open(first.id)
        assert dict(found) == {"k": 1, **{f"{number}": number for number in range(1000)}}


def test_memory_keeps_its_word_among_threads(namespace: str) -> None:
    sessions = StateKit.in_memory(namespace).sessions()
    id_ = begun(sessions)

    def write(number: int) -> None:
        session = sessions.open(id_)
        session[f"{number}"] = number
        assert sessions.save(session) is SaveOutcome.SAVED

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(500)))
    assert len(sessions.open(id_)) == 501


def test_a_session_revoked_under_fire_stays_gone(valkey_url: str, namespace: str) -> None:
    with StateKit.connect(valkey_url, namespace, budget=PATIENT) as kit:
        sessions = kit.sessions()
        id_ = begun(sessions)
        handle = sessions.open(id_).handle

        def revoke() -> None:
            deadline = time.monotonic() + 60
            while sessions.open(id_).get("n", 0) < 50 and time.monotonic() < deadline:
                pass
            assert sessions.revoke(handle)

        in_processes(write_until_gone, [(valkey_url, namespace, id_)] * 2, revoke)
        assert sessions.open(id_).is_new
        assert sessions.sessions_of("user:7") == []


def test_revoke_all_ends_whatever_was_signed_in_before(valkey_url: str, namespace: str) -> None:
    with StateKit.connect(valkey_url, namespace, budget=PATIENT) as kit:
        sessions = kit.sessions()
        made: list[str] = []
        ended = 0

        def keep_signing_in() -> None:
            for _ in range(60):
                made.append(begun(sessions))  # noqa: PERF401 - the others count while it grows

        with ThreadPoolExecutor(6) as pool:
            signing = [pool.submit(keep_signing_in) for _ in range(6)]
            while not all(one.done() for one in signing):
                before = len(made)
                sessions.revoke_all("user:7")
                ended = before
        for one in signing:
            one.result()
        assert len(made) == 360
        assert ended > 0
        alive = [session for session in map(sessions.open, made[:ended]) if not session.is_new]
        assert alive == []
        later = {session.handle for session in map(sessions.open, made[ended:]) if not session.is_new}
        assert {info.handle for info in sessions.sessions_of("user:7")} == later, "none outside the index"
