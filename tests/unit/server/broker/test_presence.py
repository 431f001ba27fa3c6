from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from hypha.auth.identity import Scope, User
from hypha.auth.permissions import may_take_over
from hypha.broker.presence import Taken, TooMany, _may_have
from tests.unit.server.broker.conftest import FakeOutlet, World, newcomer


async def test_a_newcomer_is_reachable_and_counted(world: World):
    connection, _ = await world.join("c1", right="r")
    assert world.router.connections == {"ws/c1": connection}
    assert not connection.writer
    assert world.presence.joined == 1


async def test_leaving_frees_everything_and_is_told(world: World):
    watcher, seen = await world.join("c2")
    watcher.subscriptions.add("client_disconnected")
    far, far_seen = await world.join("c3", workspace="far", user_id="bob")
    connection, _ = await world.join("c1")
    connection.met(far.address)
    world.presence.leave(connection, clean=True)
    event = {"type": "client_disconnected", "to": "*", "data": {"id": "c1", "workspace": "ws"}}
    assert seen.frames == [(event, {})]
    assert far_seen.frames == [({**event, "to": "far/c3"}, {})]
    assert world.left == ["ws/c1"]
    assert len(world.router.mailboxes) == 0
    world.presence.leave(connection, clean=True)
    assert world.left == ["ws/c1"], "once"


async def test_only_a_loss_without_goodbye_opens_a_mailbox(world: World):
    for clean in (True, False):
        connection, _ = await world.join("c1")
        world.presence.leave(connection, clean=clean)
        assert ("ws/c1" in world.router.mailboxes) is not clean


# -- a living client ---------------------------------------------------------------------------------


async def test_a_living_client_is_not_replaced_nor_touched(world: World):
    old, outlet = await world.join("c1")
    outlet.on_ping = lambda: old.alive(world.clock())
    before = (world.presence.joined, dict(world.router.connections))
    with pytest.raises(Taken):
        await world.join("c1")
    assert outlet.pings == 1
    assert (world.presence.joined, dict(world.router.connections)) == before
    assert not outlet.aborted
    assert not old.closing
    assert not old.waiting_for_life


async def test_a_silent_client_is_replaced_by_its_user(world: World):
    old, outlet = await world.join("c1")
    watcher, seen = await world.join("c2")
    watcher.subscriptions.add("client_disconnected")
    new, _ = await world.join("c1")
    assert outlet.aborted
    assert world.left == ["ws/c1"], "what it had registered is gone"
    assert seen.frames[0][0]["data"] == {"id": "c1", "workspace": "ws"}
    assert world.router.connections["ws/c1"] is new
    assert not new.exists
    # The end of the old socket comes late, and changes nothing.
    world.presence.leave(old, clean=False)
    assert world.router.connections["ws/c1"] is new
    assert world.left == ["ws/c1"]
    assert "ws/c1" not in world.router.mailboxes


@pytest.mark.parametrize(("user_id", "right"), [("bob", "rw"), ("bob", "r"), ("alice", "r")])
async def test_who_may_not_have_it_is_refused_without_asking(world: World, user_id: str, right: str):
    _, outlet = await world.join("c1", right="rw")
    with pytest.raises(Taken):
        await world.join("c1", user_id=user_id, right=right)
    assert outlet.pings == 0


async def test_eight_rivals_for_a_silent_client_leave_one(world: World):
    await world.join("c1")
    outlets = [FakeOutlet() for _ in range(8)]

    async def rival(outlet: FakeOutlet) -> Any:
        def answer() -> None:
            world.router.connections["ws/c1"].alive(world.clock())

        outlet.on_ping = answer
        return await world.presence.join(newcomer(), outlet)

    results = await asyncio.gather(*map(rival, outlets), return_exceptions=True)
    winners = [result for result in results if not isinstance(result, BaseException)]
    assert len(winners) == 1
    assert all(isinstance(result, Taken) for result in results if isinstance(result, BaseException))
    assert world.router.connections["ws/c1"] is winners[0].connection
    assert not winners[0].connection.waiting_for_life


async def test_a_client_that_leaves_while_it_is_asked_makes_room_at_once():
    world = World(replace_ping_timeout=30.0)
    old, outlet = await world.join("c1")
    outlet.on_ping = lambda: world.presence.leave(old, clean=True)
    async with asyncio.timeout(1):
        new, _ = await world.join("c1")
    assert world.router.connections["ws/c1"] is new


async def test_its_own_token_moves_a_client_while_a_rival_waits(world: World):
    await world.join("c1")
    rival = asyncio.create_task(world.join("c1"))
    await asyncio.sleep(0)
    new, outlet = await world.join("c1", resumes=True)
    outlet.on_ping = lambda: new.alive(world.clock())
    with pytest.raises(Taken):
        await rival
    assert world.router.connections["ws/c1"] is new


async def test_a_rival_that_gives_up_leaves_nothing(world: World):
    old, _ = await world.join("c1")
    rival = asyncio.create_task(world.join("c1"))
    await asyncio.sleep(0)
    assert old.waiting_for_life
    rival.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rival
    assert not old.waiting_for_life
    assert world.router.connections["ws/c1"] is old


# -- reconnection ------------------------------------------------------------------------------------


@pytest.mark.parametrize("life", [None, "one"])
async def test_the_same_client_object_goes_on(world: World, life: str | None):
    old, outlet = await world.join("c1", life=life)
    old.exists = True
    old.met("far/c9")
    old.subscriptions.add("news")
    new_outlet = FakeOutlet()
    arrival = await world.presence.join(newcomer(life=life, resumes=True), new_outlet)
    assert arrival.resumed
    assert outlet.aborted
    assert outlet.pings == 0
    assert arrival.connection.exists
    assert list(arrival.connection.abroad) == ["far/c9"]
    assert not arrival.connection.subscriptions
    assert world.left == [], "its registrations stay"
    assert world.presence.resumed == {"ws/c1"}


async def test_a_takeover_is_told_to_level_1_only(world: World):
    seen = {}
    for client, level in (("c2", 0), ("c3", 1)):
        connection, seen[level] = await world.join(client, level=level)
        connection.subscriptions.add("client_disconnected")
    await world.join("c1")
    await world.join("c1", resumes=True)
    assert not seen[0].frames
    assert [header["type"] for header, _ in seen[1].frames] == ["client_disconnected"]


async def test_another_client_object_with_the_token_starts_anew(world: World):
    old, _ = await world.join("c1", life="one")
    old.exists = True
    arrival = await world.presence.join(newcomer(life="two", resumes=True), FakeOutlet())
    assert not arrival.resumed
    assert not arrival.connection.exists
    assert world.left == ["ws/c1"]


async def test_the_token_of_another_user_is_no_key(world: World):
    old, outlet = await world.join("c1")
    outlet.on_ping = lambda: old.alive(world.clock())
    with pytest.raises(Taken):
        await world.join("c1", user_id="bob", resumes=True, right="rw")
    with pytest.raises(Taken):
        await world.join("c1", user_id="bob", resumes=True, right="a")
    assert not outlet.aborted


async def test_the_mailbox_is_handed_over_in_time(world: World):
    old, _ = await world.join("c1")
    world.presence.leave(old, clean=False)
    world.router.mailboxes.put("ws/c1", b"answer")
    world.clock.now += 14.0
    arrival = await world.presence.join(newcomer(resumes=True), FakeOutlet())
    assert arrival.resumed
    assert arrival.mailbox is not None
    assert list(arrival.mailbox.frames) == [b"answer"]


async def test_after_the_mailbox_has_expired_nobody_is_resumed(world: World):
    old, _ = await world.join("c1")
    world.presence.leave(old, clean=False)
    world.clock.now += 15.1
    world.presence.sweep()
    arrival = await world.presence.join(newcomer(resumes=True), FakeOutlet())
    assert not arrival.resumed
    assert arrival.mailbox is None
    assert world.presence.resumed == set()


async def test_without_the_token_nobody_gets_the_mailbox(world: World):
    old, _ = await world.join("c1")
    world.presence.leave(old, clean=False)
    arrival = await world.presence.join(newcomer(), FakeOutlet())
    assert not arrival.resumed
    assert arrival.mailbox is None
    assert len(world.router.mailboxes) == 0


# -- a freed id ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "user_id", "right", "let_in"),
    [
        (1, "alice", "rw", True),
        (1, "alice", "a", True),
        (1, "bob", "a", True),
        (1, "bob", "rw", False),
        (1, "alice", "r", False),
        (119, "bob", "rw", False),
        (121, "bob", "rw", True),
        (121, "bob", "r", False),
        (121, "alice", "r", False),
        (3599, "bob", "r", False),
        (3601, "bob", "r", True),
    ],
)
async def test_a_freed_id_is_held(world: World, after: float, user_id: str, right: str, let_in: bool):
    connection, _ = await world.join("c1", right="rw")
    world.presence.leave(connection, clean=True)
    world.clock.now += after
    world.presence.sweep()
    if let_in:
        await world.join("c1", user_id=user_id, right=right)
        assert not world.presence._held, "it is remembered for the next time it is freed only"
    else:
        with pytest.raises(Taken):
            await world.join("c1", user_id=user_id, right=right)


def test_the_switch_and_the_permissions_agree_who_may_take_over():
    letters: list[Any] = ["r", "rw", "a"]
    for former, new, same in itertools.product(letters, letters, [True, False]):
        old_user = User("u1", parent="alice", scope=Scope({"ws": former}))
        new_user = User("u2", parent="alice" if same else "bob", scope=Scope({"ws": new}))
        claims = newcomer(right=new, user_id="alice" if same else "bob")
        assert _may_have(claims, "alice", former) == may_take_over(new_user, old_user, "ws")


# -- bounds ----------------------------------------------------------------------------------------------


async def test_connections_of_a_user_and_clients_of_a_workspace_are_bounded():
    world = World(max_connections_per_user=2, max_clients_per_workspace=3)
    first, _ = await world.join("c1")
    await world.join("c2")
    with pytest.raises(TooMany) as by_user:
        await world.join("c3")
    assert (by_user.value.scope, by_user.value.count, by_user.value.limit) == ("user", 2, 2)
    await world.join("c3", user_id="bob")
    with pytest.raises(TooMany) as by_workspace:
        await world.join("c4", user_id="bob")
    assert (by_workspace.value.scope, by_workspace.value.count, by_workspace.value.limit) == ("workspace", 3, 3)
    await world.join("c1", resumes=True)
    world.presence.leave(first, clean=True)
    assert len(world.router.connections) == 3
    world.presence.leave(world.router.connections["ws/c1"], clean=True)
    await world.join("c1")


# -- looking after everybody -------------------------------------------------------------------------------


async def test_the_quiet_are_pinged_and_the_silent_cut(world: World):
    connection, outlet = await world.join("c1")
    world.clock.now += 14
    world.presence.sweep()
    assert outlet.pings == 0
    world.clock.now += 2
    world.presence.sweep()
    assert outlet.pings == 1
    connection.alive(world.clock())
    world.clock.now += 34
    world.presence.sweep()
    assert outlet.closed is None
    world.clock.now += 2
    world.presence.sweep()
    assert outlet.closed == (1001, "No answer to pings")
    assert outlet.aborted, "there is nobody to wait for"
    outlet.closed = None
    world.presence.sweep()
    assert outlet.closed is None, "once"


async def test_whom_nothing_reaches_is_cut_long_before_its_pong_is_due(world: World):
    _, outlet = await world.join("c1")
    outlet.unacknowledged = True
    for _ in range(6):
        world.clock.now += 2
        world.presence.sweep()
        assert outlet.closed is None
    world.clock.now += 2
    world.presence.sweep()
    assert outlet.closed == (1001, "No answer to pings")
    assert outlet.aborted


async def test_an_acknowledgment_is_a_sign_of_life(world: World):
    _, outlet = await world.join("c1")
    for number in range(15):
        outlet.unacknowledged = bool(number % 4)
        world.clock.now += 2
        world.presence.sweep()
        assert outlet.closed is None


async def test_who_does_not_read_for_long_is_let_go(world: World):
    connection, outlet = await world.join("c1")
    outlet.pending = 49 * 1024 * 1024
    world.presence.sweep()
    for _ in range(2):
        world.clock.now += 20
        connection.alive(world.clock())
        outlet.pending -= 1
        world.presence.sweep()
    assert outlet.closed is None, "it reads, slowly"
    world.clock.now += 20
    connection.alive(world.clock())
    world.presence.sweep()
    assert outlet.closed is None
    world.clock.now += 20
    connection.alive(world.clock())
    world.presence.sweep()
    assert outlet.closed == (1008, "Not reading")
