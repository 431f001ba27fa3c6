"""Damaged messages at a client: at most a short line each, no trace, nothing left, no call disturbed (security S43).

The endpoint is driven directly, with more messages than a socket would carry in the time; what a whole client makes
of them is seen in `test_door_fuzz`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from hypha_rpc.wire.frame import FrameError, pack_pairs, read_header, restamp
from tests.security.mutations import Mutator
from tests.unit.endpoint.world import Later, Peer, World

pytestmark = pytest.mark.timeout(60)

FRAMES = 6000
EVIL = "ws/evil"
ABROAD = "elsewhere/evil"
LONGEST_REASON = 200


@pytest.fixture(autouse=True)
async def patient_loop() -> None:
    asyncio.get_running_loop().set_debug(False)


def stamped(frame: bytes, sender: str) -> bytes:
    """The frame as a server forwards it; one that it would not forward, as it is."""
    try:
        header, offset = read_header(frame)
    except FrameError:
        return frame
    for name in ("from", "ws", "user", "ctx"):
        header.pop(name, None)
    workspace = sender.partition("/")[0]
    try:
        segment = restamp(header, pack_pairs({"from": sender, "ws": workspace, "user": {"id": "mallory"}}))
    except (FrameError, ValueError, TypeError):
        return frame
    return segment + frame[offset:]


def scene(world: World, **options: Any) -> tuple[Peer, Peer]:
    cons, prov = world.peer("ws/cons"), world.peer("ws/prov", **options)
    prov.offer("svc", {"echo": lambda value=None: value, "later": Later, "raises": raises}, require_context=True)
    prov.offer("open", {"echo": lambda value=None: value, "later": Later, "add": lambda a, b=0: a + b})
    return cons, prov


def raises(*_: object, context: Mapping[str, Any]) -> None:
    raise ValueError(context["user"])


@pytest.mark.parametrize("sender", [EVIL, ABROAD])
@pytest.mark.parametrize("seed", [1, 2])
def test_damaged_messages_leave_nothing_and_disturb_nobody(sender: str, seed: int) -> None:
    world = World()
    cons, prov = scene(world)
    pending = cons.call("ws/prov", "services.open.later")
    world.run()
    mutator = Mutator(seed, ("ws/prov", "prov", "ws/cons", "*", ""))
    for number, frame in enumerate(mutator.frames(FRAMES)):
        prov.endpoint.receive(stamped(frame, sender), world.now)
        if number % 500 == 0:
            # What it answers to the attacker reaches nobody; what it sends to others is delivered.
            world.advance(0.01)
            assert cons.ask("ws/prov", "services.open.echo", number) == number
    world.run()
    assert not pending.done()
    assert max(map(len, prov.drops)) <= LONGEST_REASON
    prov.later[0].answer("done")
    world.run()
    assert pending.value() == "done"
    prov.endpoint.peer_gone(sender, world.now)
    for job in prov.later[1:]:
        job.answer(None)
    world.advance(700, step=20)
    left = {name: size for name, size in prov.stats().items() if size}
    assert left == {}, left


def test_damaged_answers_do_not_settle_a_call() -> None:
    """Who is called may answer anything; everybody else nothing."""
    world = World()
    cons, prov = scene(world)
    pending = [cons.call("ws/prov", "services.open.later") for _ in range(20)]
    world.run()
    mutator = Mutator(3, ("ws/cons", ""))
    sessions = [str(job.job.session) for job in prov.later if job.job is not None]
    assert len(sessions) == len(pending)
    for number, frame in enumerate(mutator.frames(FRAMES)):
        try:
            header, offset = read_header(frame)
        except FrameError:
            continue
        verb = ("resolve", "reject", "heartbeat")[number % 3]
        header["method"] = f"{sessions[number % len(sessions)]}.{verb}"
        header["type"] = "method"
        for name in ("from", "ws", "user"):
            header.pop(name, None)
        cons.endpoint.receive(restamp(header, pack_pairs({"from": EVIL})) + frame[offset:], world.now)
    assert not any(call.done() for call in pending)
    for job in prov.later:
        job.answer(1)
    world.run()
    assert [call.value() for call in pending] == [1] * len(pending)


def test_damaged_answers_of_the_called_one_are_an_error_or_a_value() -> None:
    """Whatever the called one answers, its call ends, and nothing else does."""
    world = World()
    cons, prov = scene(world)
    mutator = Mutator(4, ("ws/cons", ""))
    settled = 0
    for number, frame in enumerate(mutator.frames(FRAMES // 3)):
        pending = cons.call("ws/prov", "services.open.later")
        world.run()
        job = prov.later.pop()
        assert job.job is not None
        try:
            header, offset = read_header(frame)
        except FrameError:
            header, offset = {}, 0
        header["type"], header["method"] = "method", f"{job.job.session}.{('resolve', 'reject')[number % 2]}"
        for name in ("from", "ws", "user"):
            header.pop(name, None)
        cons.endpoint.receive(restamp(header, pack_pairs({"from": "ws/prov"})) + frame[offset:], world.now)
        job.answer(None)
        world.run()
        assert pending.settled == 1
        settled += 1
    assert settled == FRAMES // 3
    world.leave("ws/prov")
    world.advance(700, step=20)
    assert not any(cons.stats().values()), cons.stats()
