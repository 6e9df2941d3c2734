"""The roster: the script against its twin, and against a list of who signed when."""

from __future__ import annotations

import itertools

import redis
from hypothesis import given
from hypothesis import strategies as st

from statekit.store.memory import Data
from statekit.store.roster import LIFETIME, SIGN, TWINS
from tests.lua.asking import START, relaxed

_keys = (f"{{roster}}:{number}" for number in itertools.count())
LIFE = int(LIFETIME * 1e6)
moves = st.sampled_from([0, 1, LIFE // 3, LIFE - 1, LIFE, LIFE + 1, -1, -LIFE, -LIFE - 1, 10 * LIFE])


@relaxed
@given(steps=st.lists(st.tuples(moves, st.sampled_from("abcde")), max_size=30))
def test_who_signed_within_a_lifetime_lives(valkey_url, steps):
    """With clocks that jump: a sign counts for one lifetime, and one from further ahead than that not at all."""
    client, data, key = redis.Redis.from_url(valkey_url), Data(), next(_keys)
    script, signed, now = client.register_script(SIGN.source), {}, START
    for move, worker in steps:
        now += move
        signed = {name: at for name, at in signed.items() if now - LIFE < at <= now + LIFE} | {worker: now}
        args = [now, worker, LIFE]
        assert script([key], args) == TWINS["store.sign"](data, [key], args) == len(signed)
    assert not steps or 0 < client.pttl(key) <= LIFE // 1000


def test_by_the_servers_clock(server_url):
    client, key = redis.Redis.from_url(server_url), next(_keys)
    script = client.register_script(SIGN.source)
    assert [script([key], ["", worker, LIFE]) for worker in "abca"] == [1, 2, 3, 3]
