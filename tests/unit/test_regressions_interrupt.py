"""A call that is interrupted leaves no connection behind that fails, or answers, the next one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from redis.connection import UnixDomainSocketConnection

from statekit import AsyncStateKit, Budget, StateKit
from statekit.errors import StoreTimeout


def test_an_interrupt_while_connecting_does_not_leave_half_a_connection(
    valkey_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = StateKit.connect(valkey_url, namespace, snapshot_dir=None)
    greet = UnixDomainSocketConnection.on_connect_check_health

    def interrupted(connection: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(UnixDomainSocketConnection, "on_connect_check_health", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kit.ping()
    monkeypatch.setattr(UnixDomainSocketConnection, "on_connect_check_health", greet)
    assert kit.ping() < 60
    kit.close()


async def test_connections_that_will_never_answer_are_given_up_whatever_the_client_says(
    tmp_path: Path,
) -> None:
    silent = True

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mute = silent
        while data := await reader.read(4096):
            if not mute:
                writer.write(b"+PONG\r\n" * data.count(b"PING"))
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "s")
    client = redis.asyncio.Redis(
        unix_socket_path=str(tmp_path / "s"),
        protocol=2,
        socket_timeout=None,
        driver_info=None,
    )
    kit = AsyncStateKit(client, budget=Budget(operation=0.2))
    for _ in range(4):  # as many as there are connections; a fifth failure would open the breaker
        with pytest.raises(StoreTimeout):
            await kit.ping()
    silent = False
    kit.store.budget = Budget(operation=30)
    assert await kit.ping() < 30
    await kit.close()
    await client.aclose()
    server.close()
