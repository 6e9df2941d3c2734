"""Buckets: where an actor falls in a percentage. Frozen for ever.

    bucket = MurmurHash3_x86_32(UTF-8 of "<salt>:<actor>", seed 0, unsigned) mod 100000

DO NOT CHANGE THIS FILE'S ARITHMETIC. A different hash, separator or modulus would move every user of every
rollout to the other side overnight. ``vectors.json`` beside this file publishes values that any other
implementation must reproduce; a test holds this one to them.

An actor is in a rollout of P percent if its bucket is below P * 1000. So raising the percentage only ever adds
actors, and percentages have three decimals. (4294967296 is not a multiple of 100000: buckets below 67296 are
likelier by one part in 42949. That is known, and left alone.)
The split between variants hashes "<salt>:variant:<actor>", so that it does not depend on who is in the rollout.
"""

from __future__ import annotations

from mmh3 import mmh3_32_uintdigest as murmur

__all__ = ["BUCKETS", "bucket", "threshold", "variant_bucket"]

BUCKETS = 100_000


def bucket(salt: str, actor: object) -> int:
    """The bucket of an actor, 0 to 99,999.

    >>> bucket("new-checkout", "user:7")
    65260
    """
    return murmur(_utf8(f"{salt}:{actor}")) % BUCKETS


def variant_bucket(salt: str, actor: object) -> int:
    """The bucket that chooses among variants; independent of `bucket`."""
    return bucket(f"{salt}:variant", actor)


def threshold(percent: float) -> int:
    """The first bucket that is out of a rollout of so many percent."""
    return round(percent * (BUCKETS // 100))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
