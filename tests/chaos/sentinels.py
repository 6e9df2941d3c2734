"""A primary, two replicas and three sentinels on the loopback, from one program: what a failover is shown on.

They know each other from the start, so that a test does not wait for them to get acquainted; a primary that is
silent for a second is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import redis

from statekit.errors import StoreUnavailable
from tests.chaos.fleets import tell
from tests.servers import Server, free_ports, wait_until

SERVICE = "main"
DOWN_AFTER_MS = 1000
WATCHED = ("ping", "info", "role", "publish", "multi", "config", "client", "replicaof", "slaveof")
"""What sentinels say to a server. A client of statekit says `PING` too, but only when told to."""
FOLLOWED = ("psync", "sync")
"""What a replica says."""


class Sentinels:
    """A primary with its replicas and its sentinels, and what they may suffer. For ``with``."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self.servers: list[Server] = []
        """The three servers; the first one begins as the primary."""
        self.watchers: list[Server] = []

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.watchers)
        return f"redis+sentinel://{hosts}/{SERVICE}/0"

    def __enter__(self) -> Self:
        ports = free_ports(6)
        follow = ("--replicaof", "127.0.0.1", str(ports[0]))
        quick = ("--repl-diskless-sync-delay", "0")
        try:
            for index, port in enumerate(ports[:3]):
                options = (*quick, *(follow if index else ()))
                self.servers.append(Server(self._program, options, port).start())
            self.servers[0].ask(
                "SET", "first", "write", "PX", 60_000
            )  # to be confirmed, which takes a second
            wait_until(lambda: self.confirmed(self.servers[0]) == 2, 30, "the replicas do not follow")
            for index in range(3):
                self.watchers.append(self._watcher(index, ports[:3], ports[3:]).start())
            wait_until(self._watched, 30, "the sentinels do not find each other")
        except BaseException:
            self.__exit__()
            raise
        return self

    def _watcher(self, index: int, ports: list[int], watching: list[int]) -> Server:
        names = [f"{number:040x}" for number in range(1, 4)]
        one = Server(self._program, ("--sentinel",), watching[index], config=True)
        lines = [
            f"port {watching[index]}\nbind 127.0.0.1\ndir {one.folder}\nunixsocket {one.socket}",
            f"sentinel myid {names[index]}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {ports[0]} 2",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 6000",
            f"sentinel parallel-syncs {SERVICE} 2",
            *(f"sentinel known-replica {SERVICE} 127.0.0.1 {port}" for port in ports[1:]),
            *(
                f"sentinel known-sentinel {SERVICE} 127.0.0.1 {watching[other]} {names[other]}"
                for other in range(3)
                if other != index
            ),
        ]
        (one.folder / "conf").write_text("\n".join(lines) + "\n")
        return one

    def __exit__(self, *_: object) -> None:
        for server in (*self.watchers, *self.servers):
            with suppress(ProcessLookupError):
                server.thaw()  # a frozen one could not be waited for
            server.stop()

    # -- who is who --------------------------------------------------------------------------------------

    def confirmed(self, server: Server) -> int:
        """How many replicas follow a server and have all it has."""
        told = server.ask("INFO", "replication")
        offsets = [
            told[name]["offset"]
            for name in ("slave0", "slave1")
            if told.get(name, {}).get("state") == "online"
        ]
        return sum(offset >= told["master_repl_offset"] for offset in offsets)

    def _watched(self) -> bool:
        return all(self._knows(one) for one in self.watchers)

    @staticmethod
    def _knows(watcher: Server) -> bool:
        flat = tell(watcher, "SENTINEL", "MASTER", SERVICE)
        told = dict(zip(flat[::2], flat[1::2], strict=True))
        others = told["num-other-sentinels"], told["num-slaves"]
        return others == ("2", "2") and told["flags"] == "master"

    def primary(self) -> Server:
        """Whom most sentinels name."""
        named = [tell(watcher, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE) for watcher in self.watchers]
        ports = [int(address[1]) for address in named]
        return next(one for one in self.servers if ports.count(one.port) >= 2)

    def named_by(self, watcher: Server) -> Server:
        """Whom one sentinel names."""
        port = int(tell(watcher, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])
        return next(one for one in self.servers if one.port == port)

    def promoted(self, instead_of: Server, seconds: float = 60) -> Server:
        """Wait until another server is the primary, for most sentinels and for itself; return it."""
        return wait_until(lambda: self._successor(instead_of), seconds, "nobody is promoted")  # type: ignore[no-any-return]

    def _successor(self, before: Server) -> Server | None:
        with suppress(StopIteration):
            named = self.primary()
            if named is not before and named.ask("INFO", "replication")["role"] == "master":
                return named
        return None

    def in_step(self) -> None:
        """Wait until both replicas have all the primary has."""
        wait_until(lambda: self.confirmed(self.primary()) == 2, 30, "the replicas lag")

    def demoted(self, server: Server, seconds: float = 60) -> None:
        """Wait until a former primary follows the present one."""
        wait_until(lambda: self._follows(server), seconds, "the former primary does not follow")

    @staticmethod
    def _follows(server: Server) -> bool:
        with suppress(redis.ConnectionError):  # who is demoted hangs up on all its clients
            told = server.ask("INFO", "replication")
            return bool(told["role"] == "slave" and told["master_link_status"] == "up")
        return False

    # -- what they may suffer ----------------------------------------------------------------------------

    def unfollowed(self, server: Server, but: int = 0) -> None:
        """Cut the replicas of a server off, all but so many, unseen by everybody else: what it has now is all they get."""
        server.ask("ACL", "SETUSER", "default", *(f"-{word}" for word in FOLLOWED))
        addresses = [told["addr"] for told in clients(server) if "S" in told["flags"]]
        for address in addresses[but:]:
            server.ask("CLIENT", "KILL", "ADDR", address)

    def fail_over(self, kit: Any) -> Server:
        """Kill the primary, and wait until a kit is served by its successor."""
        first = self.primary()
        first.kill()
        second = self.promoted(first)
        wait_until(lambda: serves(kit), 30, "the kit is not served")
        return second

    @contextmanager
    def isolated(self, server: Server) -> Iterator[None]:
        """Cut a server off from its replicas and from all sentinels, but from no client, while the block runs."""
        words = [f"-{word}" for word in (*FOLLOWED, *WATCHED) if word != "client"]
        server.ask("ACL", "SETUSER", "default", *words)
        for told in clients(server):
            if "S" in told["flags"] or told["name"].startswith("sentinel"):
                server.ask("CLIENT", "KILL", "ID", told["id"])
        server.ask("ACL", "SETUSER", "default", "-client")
        try:
            yield
        finally:
            server.ask("ACL", "SETUSER", "default", "+@all")


def serves(kit: Any) -> bool:
    """Whether a kit reaches its store."""
    with suppress(StoreUnavailable):
        return bool(kit.ping())
    return False


def clients(server: Server) -> list[dict[str, str]]:
    """Who is connected to a server."""
    lines = tell(server, "CLIENT", "LIST").splitlines()
    return [dict(part.split("=", 1) for part in line.split(" ")) for line in lines]


def signed_in(sessions: Any, principal: str) -> Any:
    """Sign somebody in to a new session, and return it."""
    session = sessions.open(None)
    session.sign_in(principal=principal)
    sessions.save(session)
    return session
