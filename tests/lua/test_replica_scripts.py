"""The replica's Lua against its in-memory twins: the same story gets the same replies."""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from statekit.kit import StateKit
from statekit.replica import core
from statekit.replica.protocol import EMPTY, Document, Snapshot
from statekit.store.op import command
from tests.conftest import PATIENT

NOW = 1_700_000_000_000_000
texts = st.sampled_from(["1", '{"a":[1,"\\u00e4"]}', "null", '"x:y"'])
names = st.sampled_from(["a", "b", "ä:{}", "\x00", "\ud800"])
workers = st.sampled_from(["w1", "w2"])
versions = st.integers(0, 6)
moves = st.one_of(
    st.tuples(st.just("write"), names, st.none() | texts, st.none() | versions, st.booleans()),
    st.tuples(st.just("sync"), workers, st.sampled_from(["", "e1", "e2", "e9"]), versions),
    st.tuples(st.just("leave"), workers),
    st.tuples(st.just("workers")),
    st.tuples(st.just("restore"), st.lists(names, unique=True, max_size=3)),
    st.tuples(st.just("flush")),
    st.tuples(st.just("evict")),
    st.tuples(st.just("wait"), st.sampled_from([0, 1, 5, 10, 12, -5, -12, -3600])),
    st.tuples(st.just("history")),
)
numbers = itertools.count()


def emptied(at):
    yield from command("DEL", at.meta, at.docs, at.log, at.workers, at.acks)


def op_of(at, move, args, draw):  # noqa: PLR0911 - a table of moves
    fresh, now = draw
    if move == "write":
        name, text, expected, known = args
        shown = Snapshot("e1", 3, {"a": Document(2, "1")}) if known else EMPTY
        return core.write(at, name, text, ("ann", 'q"\n'), expected, shown, (fresh, 9000, now))
    if move == "sync":
        worker, epoch, version = args
        shown = Snapshot(epoch, version if epoch else 0, {})
        return core.sync(at, core.Reader(worker, 9000), shown, fresh, now)
    if move == "leave":
        return core.leave(at, args[0], EMPTY)
    if move == "workers":
        return core.workers(at, 9000, now)
    if move == "restore":
        shown = Snapshot("e1", 5, {name: Document(n, '"x"') for n, name in enumerate(args[0])})
        return core.restore(at, shown, fresh)
    if move == "evict":
        return command("DEL", at.docs)
    if move == "flush":
        return emptied(at)
    return core.history(at, None, 5)


def said(kit, op):
    try:
        reply = kit.store.run(op)
    except Exception as error:
        return type(error), str(error)
    if isinstance(reply, list) and reply and reply[0] == b"full":  # a hash has no order
        pairs = dict(zip(reply[3][::2], reply[3][1::2], strict=True))
        return [*reply[:3], pairs]
    return reply


@pytest.fixture
def server(server_url):
    kit = StateKit.connect(server_url, budget=PATIENT, snapshot_dir=None)
    yield kit
    kit.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(moves, max_size=25))
def test_lua_and_twin_tell_the_same_story(server, story):
    memory = StateKit.in_memory()
    at = core.Address.of(server.store.keys, f"story-{next(numbers)}")
    now = NOW
    for number, (move, *args) in enumerate(story):
        if move == "wait":
            now += args[0] * 1_000_000
            continue
        draw = (f"e{number}", now)
        assert said(server, op_of(at, move, args, draw)) == said(memory, op_of(at, move, args, draw)), (
            move,
            args,
        )


def test_configuration_does_not_expire_and_presence_does(server, namespace):
    at = core.Address.of(server.store.keys, namespace)
    run = server.store.run
    run(core.write(at, "a", "1", ("", ""), None, EMPTY, ("e", 9000, "")))
    run(command("PEXPIRE", at.docs, 5000))
    run(core.write(at, "b", "1", ("", ""), None, EMPTY, ("e", 9000, "")))
    run(core.sync(at, core.Reader("w", 9000), EMPTY, "f", ""))
    assert [run(command("PTTL", key)) for key in (at.meta, at.docs, at.log)] == [-1, -1, -1]
    assert all(0 < run(command("PTTL", key)) <= 18000 for key in (at.workers, at.acks))


def test_a_clock_set_back_does_not_keep_the_dead_among_the_readers(server, namespace):
    for kit in (server, StateKit.in_memory()):
        at, run = core.Address.of(kit.store.keys, namespace), kit.store.run

        def seen(worker, now, at=at, run=run):
            run(core.sync(at, core.Reader(worker, 9000), EMPTY, "e", now))
            return [one.name for one in run(core.workers(at, 9000, now))]

        seen("dead", NOW + 3_600_000_000)
        assert seen("alive", NOW) == ["alive", "dead"], "for one lifetime more"
        assert seen("alive", NOW + 8_000_000) == ["alive", "dead"]
        assert seen("alive", NOW + 10_000_000) == ["alive"]
