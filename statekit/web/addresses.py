"""Addresses: whose request it is, behind proxies too, and which part of an address names who is behind it.

Rule 1: a header is believed only as far as trusted proxies wrote it: read from the right, where the nearest
        proxy added what it saw, to the first address that is not a proxy's. What a client sent lies further left.
Rule 2: what is no address ends the walk; the proxy that passed it on is then who is counted.
Rule 3: one header is read, the one the proxies write. A second one would be the client's to fill.

``X-Forwarded-For``, or ``Forwarded`` of RFC 7239.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, TypeAlias

from statekit.errors import UsageError

__all__ = ["TrustedProxies", "network"]

HOUSEHOLD = 64
"""Bits of an IPv6 address that name a subscriber; the rest is theirs to change at will."""
UNIX = "unix"
"""Stands for a peer without an address, at the other end of a unix socket."""
MOST_HOPS = 32
LONGEST = 128
"""Entries of a header that are looked at, and characters of one: what goes beyond is no address."""
FIELDS = ("X-Forwarded-For", "Forwarded")
_WITH_PORT = re.compile(r"\[(?P<v6>[^\[\]]*)\](:\d{1,5})?\Z|(?P<v4>[\d.]+):\d{1,5}\Z")
_NODE = re.compile(r'for=(?:"(?P<quoted>[^"\\]*)"|(?P<token>[^"\\]*))\Z', re.IGNORECASE)

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


@lru_cache(maxsize=4096)
def network(address: str) -> str:
    """Group an address: IPv4 as it is, IPv6 by /64, IPv4 written as IPv6 (``::ffff:…``) as IPv4.

    What is no address is returned as it came.

    >>> network("2001:db8:1:2:3:4:5:6"), network("::ffff:203.0.113.7")
    ('2001:db8:1:2::/64', '203.0.113.7')
    """
    parsed = _parsed(address)
    if parsed is None:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, HOUSEHOLD), strict=False))
    return str(parsed)


@lru_cache(maxsize=4096)
def _parsed(address: str) -> IPAddress | None:
    """Read an address without port and zone; IPv4 written as IPv6 as IPv4; None for what is none."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """Which proxies stand in front of the app, so that a client's address can be told from what a client claims.

    Args:
        trusted: networks and addresses of the proxies, ``["10.0.0.0/8", "127.0.0.1"]``, with ``"unix"`` for one
            that connects over a unix socket; or how many proxies every request passes, for an app that cannot
            be reached past them.
        header: the field they write: ``"X-Forwarded-For"``, or ``"Forwarded"`` (RFC 7239).

    Raises `UsageError` for what is no network, and for networks that trust everybody.

    >>> proxies = TrustedProxies(["10.0.0.0/8"])
    >>> proxies.client("10.0.0.1", "6.6.6.6, 203.0.113.7, 10.0.0.2")
    '203.0.113.7'
    >>> proxies.client("198.51.100.9", "203.0.113.7")
    '198.51.100.9'
    """

    trusted: Sequence[str] | int
    header: Literal["X-Forwarded-For", "Forwarded"] = "X-Forwarded-For"
    _networks: tuple[Network, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        if self.header not in FIELDS:
            raise UsageError(f'header={self.header!r}: give "X-Forwarded-For" or "Forwarded"')
        if isinstance(self.trusted, int) and not isinstance(self.trusted, bool) and self.trusted > 0:
            return
        if isinstance(self.trusted, str | bool | int) or not self.trusted:
            raise UsageError(
                f"trusted_proxies={self.trusted!r}: give networks, such as ['10.0.0.0/8'], or how many proxies there are"
            )
        object.__setattr__(self, "trusted", tuple(self.trusted))
        object.__setattr__(self, "_networks", tuple(map(_network, (n for n in self.trusted if n != UNIX))))

    @classmethod
    def of(cls, spec: TrustedProxies | Sequence[str] | int | None) -> TrustedProxies | None:
        """Read what ``trusted_proxies=`` may say; None: no header is believed."""
        return spec if spec is None or isinstance(spec, TrustedProxies) else cls(spec)

    def client(self, peer: str | None, said: str | None) -> str | None:
        """The address a request comes from: the `peer` of the connection, or whom its proxies say they ask for.

        `said` is the header, several of them joined by commas. None if nobody along the way has an address.
        """
        address = peer
        hops = reversed(said.rsplit(",", MOST_HOPS)) if said else ()
        for passed, hop in enumerate(hops):
            told = self._told(hop.strip()) if self._trusts(address, passed) else None
            if told is None:
                break
            address = told
        return address

    def _trusts(self, address: str | None, passed: int) -> bool:
        if isinstance(self.trusted, int):
            return passed < self.trusted
        parsed = _parsed(address) if address else None
        if parsed is None:
            return UNIX in self.trusted and not passed
        return any(parsed in one for one in self._networks)

    def _told(self, hop: str) -> str | None:
        """The address in one entry; None for an obfuscated one, and for what is none."""
        if len(hop) > LONGEST:
            return None
        if self.header == "Forwarded":
            nodes = [found for pair in hop.split(";") if (found := _NODE.match(pair.strip()))]
            if len(nodes) != 1:
                return None
            hop = nodes[0]["quoted"] or nodes[0]["token"] or ""
        match = _WITH_PORT.match(hop)
        parsed = _parsed((match["v6"] or match["v4"]) if match else hop)
        return None if parsed is None else str(parsed)


def _network(text: str) -> Network:
    try:
        found = ipaddress.ip_network(text)
    except (TypeError, ValueError) as error:
        raise UsageError(f"trusted_proxies: {text!r} is no network: {error}") from None
    if not found.prefixlen:
        raise UsageError(
            f"trusted_proxies: {text!r} is everybody, and whoever is trusted can claim any address: name the proxies"
        )
    return found
