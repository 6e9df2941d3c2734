"""Bytes as others leave them: mostly not far from what was there."""

from __future__ import annotations

import random

NUMBERS = (
    b"",
    b"0",
    b"-1",
    b"1e308",
    b"9" * 30,
    b"nan",
    b"inf",
    b"-inf",
    b"0x10",
    b"1.5",
    b" 7 ",
    b"\xff\xfe",
    b"abc",
)


def damaged(raw: bytes, luck: random.Random) -> bytes:
    """Other bytes, mostly not far from what was there."""
    at, some = luck.randrange(len(raw) + 1), luck.randbytes(luck.choice((1, 1, 2, 8, 40)))
    words = raw.split(b" ")
    words[luck.randrange(len(words))] = luck.choice(NUMBERS)
    return luck.choice(
        (
            raw[:at],
            raw[at:],
            raw[:at] + some + raw[at:],
            raw[:at] + some + raw[at + len(some) :],
            raw[:at] + bytes([255 - raw[at]]) + raw[at + 1 :] if at < len(raw) else b"",
            luck.choice(NUMBERS),
            raw + luck.choice(NUMBERS),
            b" ".join(words),
            bytes(luck.choice((0, 255)) for _ in raw),
        )
    )
