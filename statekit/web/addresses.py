"""Addresses: which part of one names who is behind it."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

__all__ = ["network"]

HOUSEHOLD = 64
"""Bits of an IPv6 address that name a subscriber; the rest is theirs to change at will."""


@lru_cache(maxsize=4096)
def network(address: str) -> str:
    """Group an address: IPv4 as it is, IPv6 by /64, IPv4 written as IPv6 (``::ffff:…``) as IPv4.

    What is no address is returned as it came.

    >>> network("2001:db8:1:2:3:4:5:6"), network("::ffff:203.0.113.7")
    ('2001:db8:1:2::/64', '203.0.113.7')
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, HOUSEHOLD), strict=False))
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)
