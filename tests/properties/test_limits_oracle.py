"""The limiters' scripts against the exact oracle: every number of every answer, over random schedules.

A schedule is known by its algorithm and number, and is the same whenever it is played. Hundreds travel in one
pipeline; what the server answers is compared with what it must, byte for byte.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Iterable
from itertools import islice
from struct import unpack

import pytest

from statekit.ratelimit.core import HIT, HOLD, RESET
from statekit.ratelimit.decision import Decision
from statekit.ratelimit.limits import Limit
from statekit.ratelimit.memory import TWINS
from statekit.ratelimit.rule import WIRE, Hit, Rule
from statekit.store.memory import Data
from tests.models.limits import ALGORITHMS
from tests.properties.schedules import SECOND, Schedule, Step, reply, request
from tests.servers import SERVERS, Server

STEPS = 10
"""In a schedule, on average."""
BATCH = 200
END = b"$3\r\nend\r\n"


class Wire:
    """A connection on which the bytes are ours."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(str(server.socket))
        for script in (HIT, HOLD, RESET):
            source = script.source.encode()
            head = b"*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n"
            assert (
                self.ask(b"%b$%d\r\n%b\r\n" % (head, len(source), source))
                == b"$40\r\n%b\r\n" % script.sha.encode()
            )

    def ask(self, requests: bytes) -> bytes:
        """Send commands, return all that is answered."""
        self.socket.sendall(requests + b"*2\r\n$4\r\nECHO\r\n$3\r\nend\r\n")
        parts = [b""]
        while not (parts[-1].endswith(END) or b"".join(parts[-2:]).endswith(END)):
            part = self.socket.recv(1 << 18)
            assert part, "the server hung up"
            parts.append(part)
        return b"".join(parts)[: -len(END)]


def compared(wire: Wire, batch: list[tuple[Schedule, list[Step]]]) -> None:
    """Play schedules on the server; on a difference say which schedule, which step, and what was expected."""
    requests = b"".join(request(step) for _, steps in batch for step in steps)
    expected = b"".join(reply(step.answer) for _, steps in batch for step in steps)
    given = wire.ask(requests)
    if given == expected:
        return
    at = 0
    for schedule, steps in batch:
        for number, step in enumerate(steps):
            right = reply(step.answer)
            found = given[at : at + len(right)]
            at += len(right)
            if found != right:
                pytest.fail(told(schedule, steps[: number + 1], found))


def told(schedule: Schedule, steps: list[Step], found: bytes) -> str:
    numbers: object = found
    if found.startswith(b"$"):
        numbers = numbers_of(found[found.index(b"\r\n") + 2 : -2])
    story = "\n".join(f"  {step.script.name} {step.keys} {step.args} -> {step.answer}" for step in steps)
    return (
        f"schedule {schedule.algorithm} {schedule.number}, step {len(steps)}:\n{story}\n"
        f"the script says\n  {numbers}\nand the oracle\n  {steps[-1].answer}"
    )


def numbers_of(body: bytes) -> list[int]:
    return list(unpack(f">{len(body) // 8}q", body[: len(body) // 8 * 8]))


def played(algorithm: str, numbers: Iterable[int]) -> Iterable[list[tuple[Schedule, list[Step]]]]:
    """Schedules with their steps, in batches."""
    each = iter(Schedule(algorithm, number) for number in numbers)
    while batch := list(islice(each, BATCH)):
        yield [(schedule, list(schedule.steps(STEPS))) for schedule in batch]


def on_the_server(
    server: Server, algorithm: str, numbers: range, record: Callable[[str, object], None]
) -> None:
    wire, steps, proved = Wire(server), 0, 0
    for batch in played(algorithm, numbers):
        compared(wire, batch)
        steps += sum(len(one) for _, one in batch)
        proved += sum(schedule.proved for schedule, _ in batch)
    record("schedules", (f"limiter, {algorithm}", len(numbers), steps))
    record(
        "schedules",
        (f"limiter, {algorithm}: refusals asked again just before their end and at it", proved, 2 * proved),
    )


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_script_answers_as_the_oracle(servers, server, algorithm, record_property):
    on_the_server(servers[server], algorithm, range(500), record_property)


@pytest.mark.exhaustive
@pytest.mark.parametrize("shard", range(20))
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_hundred_thousand_schedules(servers, algorithm, shard, record_property):
    on_the_server(servers["valkey"], algorithm, range(5000 * shard, 5000 * (shard + 1)), record_property)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_twin_answers_as_the_oracle(algorithm):
    for batch in played(algorithm, range(1000, 1200)):
        for schedule, steps in batch:
            data = Data()
            for number, step in enumerate(steps):
                given = TWINS[step.script.name](data, step.keys, step.args)
                found = reply(given if isinstance(given, int) else numbers_of(given))
                assert found == reply(step.answer), told(schedule, steps[: number + 1], found)


# -- the oracle itself, and what a decision makes of the figures -------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_oracle_keeps_to_its_own_definition(algorithm):
    """Each wait it tells is the least after which few enough units count."""
    for number in range(300):
        schedule = Schedule(algorithm, number)
        for step in schedule.steps(STEPS):
            for asked in step.asked:
                for bound, window in zip(asked.bounds, asked.caller.laden(), strict=True):
                    for target in {
                        0,
                        bound.count // 2,
                        max(0, min(window.used(schedule.now), bound.count) - 1),
                    }:
                        wait = window.wait(target)
                        assert window.used(schedule.now + wait) <= target
                        assert wait == 0 or window.used(schedule.now + wait - 1) > target


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_decision_tells_what_the_oracle_says(algorithm):
    """Allowed, remaining, retry_after, reset_after, violated, of the limit that binds first."""
    for batch in played(algorithm, range(2000, 2300)):
        for schedule, steps in batch:
            for step in steps:
                if step.asked and isinstance(step.answer, list):
                    judged(schedule.algorithm, step, step.answer)


def judged(algorithm: str, step: Step, answer: list[int]) -> None:
    """Compare a decision with the oracle's figures, limit by limit: `(left, wait, more, reset)`."""
    hits = tuple(
        Hit(ruled(algorithm, asked.bounds, asked.shadow), "k", asked.need, asked.take) for asked in step.asked
    )
    decision = Decision(answer[0] == 1, hits, tuple(answer))
    limits = [
        (Limit(bound.count, bound.window / SECOND), asked.shadow)
        for asked in step.asked
        for bound in asked.bounds
    ]
    figures = [tuple(answer[at : at + 4]) for at in range(2, len(answer), 4)]
    assert decision.violated == tuple(
        limit for (limit, _), one in zip(limits, figures, strict=True) if one[1]
    )
    refusing = [
        one
        for (_, shadow), one in zip(limits, figures, strict=True)
        if one[1] and not (shadow and not answer[0])
    ]
    waits = [math.inf if one[1] < 0 else one[1] for one in refusing]
    least = min(one[0] for one in figures)
    binding = [one for one, wait in zip(refusing, waits, strict=True) if wait == max(waits)] or [
        one for one in figures if one[0] == least
    ]
    assert decision.allowed is (
        not any(one[1] for (_, shadow), one in zip(limits, figures, strict=True) if not shadow)
    )
    assert (decision.remaining, decision.reset_after) in {
        (left, reset / SECOND) for left, _, _, reset in binding
    }
    longest = None if decision.allowed or math.inf in waits else max(waits) / SECOND
    assert decision.retry_after == (0.0 if decision.allowed else longest)


def ruled(algorithm, bounds, shadow):
    named = next(one for one, wire in WIRE.items() if wire == algorithm)
    return Rule.of(
        "api", [Limit(count, window / SECOND) for count, window in bounds], named, "deny", shadow=shadow
    )
