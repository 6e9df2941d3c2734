"""The frozen hash: the published vectors, and a second implementation of it written from the description."""

import json
from importlib.resources import files

import pytest

from statekit.flags import Flag, Reason, Variant
from statekit.flags.buckets import bucket, variant_bucket
from statekit.flags.compiled import compiled

PUBLISHED = json.loads(files("statekit.flags").joinpath("vectors.json").read_text(encoding="utf-8"))


def murmur(data: bytes) -> int:
    """MurmurHash3_x86_32 with seed 0, from its public description."""
    mask, state = 0xFFFFFFFF, 0

    def mixed(block: int) -> int:
        block = block * 0xCC9E2D51 & mask
        block = (block << 15 | block >> 17) & mask
        return block * 0x1B873593 & mask

    whole = len(data) & ~3
    for at in range(0, whole, 4):
        state ^= mixed(int.from_bytes(data[at : at + 4], "little"))
        state = (state << 13 | state >> 19) & mask
        state = (state * 5 + 0xE6546B64) & mask
    if data[whole:]:
        state ^= mixed(int.from_bytes(data[whole:], "little"))
    state ^= len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        state ^= state >> shift
        state = state * factor & mask
    return state


@pytest.mark.parametrize("vector", PUBLISHED["vectors"], ids=lambda one: f"{one['salt']}:{one['actor']}"[:30])
def test_published_vectors(vector):
    salt, actor = vector["salt"], vector["actor"]
    assert bucket(salt, actor) == vector["bucket"]
    assert variant_bucket(salt, actor) == vector["variant_bucket"]
    assert murmur(f"{salt}:{actor}".encode()) % 100_000 == vector["bucket"]
    assert murmur(f"{salt}:variant:{actor}".encode()) % 100_000 == vector["variant_bucket"]


@pytest.mark.parametrize("vector", PUBLISHED["splits"], ids=lambda one: one["actor"])
def test_published_splits(vector):
    first, second = vector["weights"]
    flag = Flag(variants={"0": Variant(0, first), "1": Variant(1, second)}, salt=vector["salt"])
    decide = compiled("any", flag, {}.get, int)
    assert decide(vector["actor"], {}).value == vector["variant"]


def test_a_known_value_by_hand():
    assert murmur(b"") == 0
    assert murmur(b"test") == 0xBA6BD213
    assert bucket("new-checkout", "user:7") == 65260


@pytest.mark.parametrize("percent", [0, 0.001, 1, 25, 50, 99.999, 100])
def test_the_closure_and_the_description_agree(percent):
    decide = compiled("canary", Flag(rollout=percent), {}.get, int)
    for n in [*range(3000), "\ud800", "ä", ""]:
        assert decide(f"user:{n}", {}).on == (bucket("canary", f"user:{n}") < percent * 1000)


def test_shares_are_what_they_say():
    for percent in (1, 10, 25, 50):
        inside = sum(bucket("share", n) < percent * 1000 for n in range(100_000)) / 1000
        assert abs(inside - percent) < 0.6


def test_rollout_and_split_are_independent():
    flag = Flag(rollout=50, variants={"a": "A", "b": "B"})
    decide = compiled("ab", flag, {}.get, int)
    outcomes = [decide(n, {}) for n in range(20_000)]
    on = [one for one in outcomes if one.on]
    assert 9500 < len(on) < 10_500
    assert 0.47 < sum(one.value == "A" for one in on) / len(on) < 0.53
    assert {one.reason for one in outcomes} == {Reason.SPLIT, Reason.ROLLOUT}


def test_flags_of_one_salt_choose_the_same_actors():
    one = compiled("one", Flag(rollout=30, salt="launch"), {}.get, int)
    two = compiled("two", Flag(rollout=30, salt="launch"), {}.get, int)
    assert [one(n, {}).on for n in range(500)] == [two(n, {}).on for n in range(500)]
