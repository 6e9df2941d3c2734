"""TLS: sessions and limits over it, and what is refused: an unknown signer, another's name, an expired certificate."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from statekit import AsyncStateKit, Budget, StateKit, StoreUnavailable
from statekit.flags import Flag
from statekit.store.op import command
from statekit.testing import Blocking
from tests.conftest import PATIENT
from tests.security.tls import Authority, free_port, in_front_of, speaking_tls
from tests.servers import Server, binary, wait_until

YESTERDAY = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.new(tmp_path_factory.mktemp("tls"), "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.new(tmp_path_factory.mktemp("tls"), "theirs")


@pytest.fixture(scope="module", params=["redis7", "valkey behind an end of TLS"])
def port(request: pytest.FixtureRequest, ours: Authority) -> Iterator[int]:
    certificate = ours.signs("store", "127.0.0.1", "localhost")
    if request.param == "redis7":
        with speaking_tls(binary("redis7"), certificate, ours.path) as port:
            yield port
    else:
        with (
            Server(binary("valkey"), ("--requirepass", "hunter2")) as plain,
            in_front_of(plain, certificate) as port,
        ):
            yield port


def connect(colour: str, url: str, namespace: str = "atlas", budget: Budget = PATIENT) -> Any:
    if colour == "blocking":
        return StateKit.connect(url, namespace, budget=budget, snapshot_dir=None)
    return Blocking(AsyncStateKit.connect(url, namespace, budget=budget, snapshot_dir=None))


def address(port: int, host: str = "127.0.0.1", **options: object) -> str:
    said = "&".join(f"{name}={value}" for name, value in options.items())
    return f"rediss://:hunter2@{host}:{port}/0?{said}"


@pytest.mark.parametrize("colour", ["blocking", "asyncio"])
def test_everything_passes_over_tls(colour: str, port: int, ours: Authority, namespace: str) -> None:
    with (
        connect(colour, address(port, ssl_ca_certs=ours.path), namespace) as kit,
        connect(colour, address(port, "localhost", ssl_ca_certs=ours.path), namespace) as other,
    ):
        sessions = kit.sessions(max_bytes=4_000_000)
        session = sessions.open(None)
        session["large"] = "x" * 1_000_000  # many records of TLS
        sessions.save(session)
        assert len(other.sessions().open(session.id)["large"]) == 1_000_000
        other.flags.set("new", Flag(), by="ann", wait=10)
        wait_until(lambda: kit.flags.enabled("new"))
        before = received(kit)
        limiter = kit.rate_limiter("login", "1000/minute")
        assert [limiter.hit("ip").remaining for _ in range(200)] == list(range(999, 799, -1))
        assert received(kit) - before < 5, "connections are not kept"


def received(kit: Any) -> int:
    """How many connections the server has had."""
    told = kit.store.run(command("INFO", "stats")).decode()
    return int(told.partition("total_connections_received:")[2].split()[0])


@pytest.mark.parametrize("colour", ["blocking", "asyncio"])
@pytest.mark.parametrize(
    ("trusted", "says"), [("theirs", "certificate verify failed"), (None, "certificate verify failed")]
)
def test_a_signer_nobody_trusts_is_refused(
    colour: str, port: int, trusted: str | None, says: str, request: pytest.FixtureRequest
) -> None:
    options = {"ssl_ca_certs": request.getfixturevalue(trusted).path} if trusted else {}
    refused(connect(colour, address(port, **options)), says)


@pytest.mark.parametrize("colour", ["blocking", "asyncio"])
def test_a_certificate_for_another_name_is_refused(colour: str, ours: Authority) -> None:
    """It is signed by whom we trust, for a server of somebody else."""
    certificate = ours.signs("elsewhere", "elsewhere.internal")
    with (
        Server(binary("valkey"), ("--requirepass", "hunter2")) as plain,
        in_front_of(plain, certificate) as port,
    ):
        refused(connect(colour, address(port, ssl_ca_certs=ours.path)), "certificate is not valid for")
        kit = connect(colour, address(port, ssl_ca_certs=ours.path, ssl_check_hostname="false"))
        assert kit.ping() < 60  # who says so gets it
        kit.close()


@pytest.mark.parametrize("colour", ["blocking", "asyncio"])
def test_an_expired_certificate_is_refused(colour: str, ours: Authority) -> None:
    certificate = ours.signs("expired", "127.0.0.1", until=YESTERDAY)
    with (
        Server(binary("valkey"), ("--requirepass", "hunter2")) as plain,
        in_front_of(plain, certificate) as port,
    ):
        refused(connect(colour, address(port, ssl_ca_certs=ours.path)), "expired")


@pytest.mark.parametrize("colour", ["blocking", "asyncio"])
def test_a_client_may_have_to_show_a_certificate_too(colour: str, ours: Authority) -> None:
    server, client = ours.signs("mutual", "127.0.0.1"), ours.signs("client")
    with speaking_tls(binary("redis7"), server, ours.path, clients="yes") as port:
        refused(connect(colour, address(port, ssl_ca_certs=ours.path)), "")
        shown = {"ssl_certfile": client[0], "ssl_keyfile": client[1]}
        kit = connect(colour, address(port, ssl_ca_certs=ours.path, **shown))
        assert kit.ping() < 60
        kit.close()


@pytest.mark.parametrize("colour", ["blocking", "asyncio"])
def test_plain_and_tls_do_not_meet(colour: str, port: int, ours: Authority) -> None:
    brief = Budget(decision=1, operation=1, connect=1)
    refused(connect(colour, f"redis://:hunter2@127.0.0.1:{port}/0", budget=brief), "")
    with Server(binary("valkey"), ("--requirepass", "hunter2"), port=free_port()) as plain:
        refused(connect(colour, address(plain.port, ssl_ca_certs=ours.path), budget=brief), "")


def refused(kit: Any, says: str) -> None:
    """It is no answer, in time, with a reason and without the password."""
    start = monotonic()
    try:
        with pytest.raises(StoreUnavailable) as caught:
            kit.ping()
        assert monotonic() - start < 30
        told = f"{caught.value} {caught.value.__cause__}"
        assert says.lower() in told.lower()
        assert "hunter2" not in told
    finally:
        kit.close()
