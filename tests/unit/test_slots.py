"""A round's course through a cluster, without one: what moves is followed, what is down fails alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.crc import key_slot

from statekit.errors import StoreReadOnly, StoreRejected, StoreTimeout, StoreUnavailable
from statekit.store import nodes
from statekit.store.nodes import Nodes, Want
from statekit.store.op import Call, Script
from statekit.store.outage import FAILURES
from statekit.store.slots import SlotMap, slot_of

A, B, C = ("a", 1), ("b", 2), ("c", 3)
KEYS = {"a": "k{0}", "b": "k{1}", "c": "k{2}"}
EMPTY = StoreRejected("ERR unknown")


def map_of(owners: dict[str, tuple[str, int]], epoch: int = 1, sharded: bool = True) -> list[Any]:
    """What a node tells of a cluster where each of `KEYS` has a range of one slot, all other slots belong to A."""
    ranges = [[0, 16383, [A[0].encode(), A[1]]]]
    ranges += [
        [slot_of(KEYS[name]), slot_of(KEYS[name]), [host.encode(), port]]
        for name, (host, port) in owners.items()
    ]
    return [
        ranges,
        f"cluster_state:ok\r\ncluster_current_epoch:{epoch}\r\n".encode(),
        [[b"spublish"]] if sharded else [None],
    ]


class Play:
    """Nodes whose answers a test writes; time is the test's too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(nodes, "monotonic", lambda: self.now)
        self.nodes = Nodes(lambda node: node, [A], "nowhere")
        self.owners = {"a": A, "b": B, "c": C}
        self.epoch = 1
        self.down: set[tuple[str, int]] = set()
        self.asked: list[tuple[tuple[str, int], Call]] = []
        self.waits: list[float] = []
        self.looks = 0
        self.answer: Callable[[tuple[str, int], Call], Any] = lambda node, call: b"ok"

    def _look(self) -> None:
        self.looks += 1
        asking = self.nodes.learning()
        try:
            node = next(asking)
            while True:
                down = node in self.down
                node = asking.send(StoreUnavailable("down") if down else map_of(self.owners, self.epoch))
        except StopIteration:
            return

    def _told(self, node: tuple[str, int], calls: tuple[Call, ...]) -> Any:
        self.asked += [(node, call) for call in calls]
        if node in self.down:
            return StoreUnavailable(f"{node} is down")
        return [self.answer(node, call) for call in calls]

    def run(self, *calls: Call, budget: float = 1.0) -> list[Any]:
        steps = self.nodes.routed(calls, self.now + budget)
        given: Any = None
        try:
            while True:
                step = steps.send(given)
                given = None
                if step is Want.MAP:
                    self._look()
                elif isinstance(step, float):
                    self.waits.append(step)
                    self.now += step
                else:
                    given = [self._told(node, calls) for node, calls in step]
        except StopIteration as stop:
            return stop.value


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    return Play(monkeypatch)


def get(name: str) -> Call:
    return Call(("GET", KEYS[name]), read_only=True)


def put(name: str) -> Call:
    return Call(("SET", KEYS[name], "v"))


@pytest.mark.parametrize("key", ["", "a", "{a}b", "b{a}", "{}a", "{a", "a}b{c}{d}", "sk1:x:limit:{ü:é}:log"])
def test_slots_are_those_of_the_specification(key: str) -> None:
    assert slot_of(key) == key_slot(key.encode())


def test_each_call_goes_to_the_owner_of_its_slot_and_replies_keep_their_order(play: Play) -> None:
    play.answer = lambda node, call: (node, call.args[1])
    assert play.run(put("c"), put("a"), put("c"), put("b")) == [
        (C, "k{2}"),
        (A, "k{0}"),
        (C, "k{2}"),
        (B, "k{1}"),
    ]
    assert play.looks == 1


def test_a_dead_node_fails_its_own_calls_and_is_asked_seldom(play: Play) -> None:
    play.run(put("a"))
    play.down = {B}
    for _ in range(FAILURES):
        one, other = play.run(put("a"), put("b"))
        assert one == b"ok"
        assert isinstance(other, StoreUnavailable)
        assert other.part == "b:2"
    play.asked.clear()
    with pytest.raises(StoreUnavailable, match="failed several times"):
        play.run(put("b"))
    assert play.run(put("a")) == [b"ok"]
    assert [node for node, _ in play.asked] == [A]


def test_a_write_that_may_have_been_applied_is_not_sent_to_the_next_owner(play: Play) -> None:
    play.run(put("a"))
    play.now += 1
    play.owners["b"], play.epoch, play.down = C, 2, {B}
    with pytest.raises(StoreUnavailable):
        play.run(put("b"))
    assert play.run(put("b")) == [b"ok"]  # by now the map says who took over
    assert [node for node, _ in play.asked][1:] == [B, C]


def test_a_read_and_what_was_never_sent_are(play: Play) -> None:
    play.run(put("a"))
    play.now += 1
    play.owners["b"], play.epoch, play.down = C, 2, {B}
    assert play.run(get("b")) == [b"ok"]
    play.owners["b"], play.epoch = B, 3
    play.nodes.doubt()
    play.now += 1
    play.run(put("a"))
    for _ in range(FAILURES):
        with pytest.raises(StoreUnavailable):
            play.run(put("b"))
    play.now += 0.03  # its breaker is open still, and the map may be read
    play.owners["b"], play.epoch = C, 4
    play.nodes._due = 0.0
    assert play.run(put("b")) == [b"ok"]


def test_moved_is_followed_and_remembered(play: Play) -> None:
    play.run(put("a"))
    moved = StoreRejected(f"MOVED {slot_of(KEYS['b'])} c:3")
    play.answer = lambda node, _: moved if node == B else b"ok"
    assert play.run(put("b")) == [b"ok"]
    play.asked.clear()
    assert play.run(put("b")) == [b"ok"]
    assert [node for node, _ in play.asked] == [C]


def test_moved_without_a_host_means_the_host_that_said_so(play: Play) -> None:
    play.run(put("a"))
    moved = StoreRejected(f"MOVED {slot_of(KEYS['b'])} :9")
    play.answer = lambda node, _: moved if node == B else node
    assert play.run(put("b")) == [("b", 9)]


def test_ask_is_followed_once_and_not_remembered(play: Play) -> None:
    play.run(put("a"))
    ask = StoreRejected(f"ASK {slot_of(KEYS['b'])} c:3")
    play.answer = lambda node, _: ask if node == B else b"ok"
    for _ in range(2):
        play.asked.clear()
        assert play.run(put("b"), put("b")) == [b"ok", b"ok"]
        assert [(node, call.args[0]) for node, call in play.asked] == [
            *[(B, "SET")] * 2,
            *[(C, "ASKING"), (C, "SET")] * 2,
        ]
    assert play.looks == 1


def test_keys_on_both_sides_are_asked_for_again_within_the_budget(play: Play) -> None:
    refusals = [StoreRejected("TRYAGAIN Multiple keys request during rehashing of slot")] * 4
    play.answer = lambda node, _: refusals.pop() if node == B and refusals else b"ok"
    assert play.run(put("b"), put("a")) == [b"ok", b"ok"]
    assert len(play.waits) == 4
    play.answer = lambda node, _: StoreRejected("TRYAGAIN")
    with pytest.raises(StoreTimeout, match="being moved"):
        play.run(put("b"), budget=0.05)
    assert sum(play.waits[4:]) < 0.05


def test_a_cluster_that_is_down_is_an_outage(play: Play) -> None:
    play.answer = lambda node, _: StoreRejected("CLUSTERDOWN The cluster is down")
    with pytest.raises(StoreUnavailable, match="CLUSTERDOWN"):
        play.run(put("b"))


def test_a_demoted_node_sends_us_back_to_the_map(play: Play) -> None:
    play.run(put("a"))
    play.now += 1
    play.owners["b"], play.epoch = C, 2
    read_only = StoreReadOnly(
        "the store refuses writes: READONLY You can't write against a read only replica."
    )
    play.answer = lambda node, _: read_only if node == B else b"ok"
    assert play.run(put("b")) == [b"ok"]
    play.answer = lambda node, _: read_only
    assert play.run(put("b"), put("b")) == [read_only, read_only]


def test_the_map_is_read_by_one_and_then_not_for_a_while(play: Play) -> None:
    play.run(put("a"))
    play.now += 1
    play.down = {B}
    for _ in range(20):
        with pytest.raises(StoreUnavailable):
            play.run(put("b"))
        play.now += 0.01
    assert 2 <= play.looks <= 4


def test_the_map_never_goes_back_unless_all_have(play: Play) -> None:
    play.epoch = 7
    play.run(put("a"))
    told = iter([map_of({"a": A, "b": A, "c": A}, epoch=6), map_of({"a": A, "b": C, "c": C}, epoch=8)])
    asking = play.nodes.learning()
    next(asking)
    with pytest.raises(StopIteration):
        while True:
            asking.send(next(told))
    assert play.nodes.owner_of(KEYS["b"]) == C
    asking = play.nodes.learning()
    next(asking)
    with pytest.raises(StopIteration):
        while True:
            asking.send(map_of({"a": A, "b": B, "c": A}, epoch=2))  # the cluster was made anew
    assert play.nodes.owner_of(KEYS["b"]) == B


def test_any_node_that_answers_tells_the_map(play: Play) -> None:
    play.run(put("a"))
    play.down = {A, B}
    play.owners["b"], play.epoch = C, 2
    play.nodes.doubt()
    play.now += 1
    assert play.run(put("b")) == [b"ok"]


def test_without_any_node_it_is_the_whole_store_that_is_away(play: Play) -> None:
    play.down = {A}
    with pytest.raises(StoreUnavailable) as caught:
        play.run(put("b"))
    assert not caught.value.part


def test_what_any_node_can_answer_is_answered_while_one_can(play: Play) -> None:
    play.run(put("a"))
    ping = Call(("PING",), read_only=True)
    for down in ({A}, {A, B}, {C}):
        play.down = down
        for _ in range(20):
            assert play.run(ping) == [b"ok"]
        play.now += 10


def test_a_slot_nobody_serves_fails_alone() -> None:
    told = SlotMap.read([[[0, 99, [b"a", 1]]], b"", EMPTY], A, lambda node: node)
    assert told.owners[99] == A
    assert told.owners[100] is None
    assert not told.sharded


@pytest.mark.parametrize("host", [None, b"", b"?"])
def test_a_node_without_a_name_is_where_it_was_asked(host: Any) -> None:
    assert SlotMap.read([[[0, 99, [host, 7]]], b"", EMPTY], ("h", 1), lambda node: node).owners[0] == ("h", 7)


@pytest.mark.parametrize("ranges", [StoreRejected("ERR This instance has cluster support disabled"), []])
def test_what_is_no_cluster_is_told_so(ranges: Any) -> None:
    with pytest.raises(StoreUnavailable, match="cluster"):
        SlotMap.read([ranges, EMPTY, EMPTY], A, lambda node: node)


def test_scripts_that_publish_are_told_of_shards(play: Play) -> None:
    plain, publishing = Script("t.plain", "return 1"), Script("t.loud", "redis.call('SPUBLISH', KEYS[1], '')")
    play.run(plain.call([KEYS["a"]], ["x"]), publishing.call([KEYS["a"]], ["x"]))
    assert [call.args for _, call in play.asked] == [("k{0}", "x"), ("k{0}", "x", 1)]


def test_a_question_goes_to_each_node_that_wrote_and_the_smallest_answer_counts(play: Play) -> None:
    wait = Call(("WAIT", 2, 100), waits=True)
    confirmed = {A: 2, B: 1, C: 2}
    moved = StoreRejected(f"MOVED {slot_of(KEYS['c'])} a:1")

    def answer(node: Any, call: Call) -> Any:
        if call is wait:
            return 0 if node == C else confirmed[node]
        return moved if node == C else b"ok"

    play.answer = answer
    assert play.run(put("a"), put("b"), put("c"), wait) == [b"ok", b"ok", b"ok", 1]
    assert play.run(put("a"), wait) == [b"ok", 2]


class Chance:
    """Draws what each node says to each call, and keeps count of what that did."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.settled: set[str] = set()
        """Writes that were applied, or may have been: whoever sends them again counts twice."""

    def told(self, calls: tuple[Call, ...]) -> Any:
        assert self.settled.isdisjoint(call.args[1] for call in calls), "sent again"
        if self.data.draw(st.integers(0, 4)) == 0:
            self.settled |= {str(call.args[1]) for call in calls}
            return StoreUnavailable("down")
        return [self._said(call) for call in calls]

    def _said(self, call: Call) -> Any:
        there = self.data.draw(st.sampled_from(["a:1", "b:2", "c:3"]))
        slot = slot_of(str(call.args[1]))
        words = [
            "ok",
            "ok",
            f"MOVED {slot} {there}",
            f"ASK {slot} {there}",
            "TRYAGAIN",
            "CLUSTERDOWN",
            "WRONGTYPE",
        ]
        word = self.data.draw(st.sampled_from(words))
        if word in ("ok", "WRONGTYPE"):
            self.settled.add(str(call.args[1]))
        return word.encode() if word == "ok" else StoreRejected(word)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_nodes_say_each_call_ends_and_no_write_is_applied_twice(
    monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    play, chance = Play(monkeypatch), Chance(data)

    def told(_: Any, calls: tuple[Call, ...]) -> Any:
        answer = chance.told(tuple(call for call in calls if call.args[0] != "ASKING"))
        asked = iter(answer) if isinstance(answer, list) else None
        return (
            answer
            if asked is None
            else [b"OK" if call.args[0] == "ASKING" else next(asked) for call in calls]
        )

    play._told = told  # type: ignore[method-assign]
    for turn in range(4):
        names = data.draw(st.lists(st.sampled_from("abcd"), min_size=1, unique=True))
        calls = [Call(("SET", f"{turn}{name}", "v")) for name in names]
        try:
            replies = play.run(*calls)
        except StoreUnavailable:
            continue
        assert len(replies) == len(calls)
        for call, reply in zip(calls, replies, strict=True):
            if isinstance(reply, StoreRejected):
                assert reply.args == ("WRONGTYPE",)
            else:
                assert isinstance(reply, StoreUnavailable) or (
                    reply == b"ok" and call.args[1] in chance.settled
                )
        play.now += data.draw(st.sampled_from([0.0, 0.2]))


def test_a_caller_who_gives_up_leaves_no_probe_behind(play: Play) -> None:
    play.run(put("a"))
    play.down = {B}
    for _ in range(FAILURES):
        with pytest.raises(StoreUnavailable):
            play.run(put("b"))
    play.down = set()
    play.now += 1
    steps = play.nodes.routed((put("b"),), play.now + 1)
    while next(steps) is Want.MAP:
        play._look()
    steps.close()
    assert play.run(put("b")) == [b"ok"]
