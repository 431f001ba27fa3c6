"""Who asks after its call is alive, whoever said that it is gone (extensions §3)."""

from __future__ import annotations

from tests.unit.endpoint.world import Peer, World


def test_a_query_takes_back_the_end_of_a_call_whose_caller_was_lost(world: World, cons: Peer, prov: Peer) -> None:
    cons.ask("ws/prov", "services.demo.add", 1)
    outcome = cons.call("ws/prov", "services.demo.later")
    world.run()
    session = next(iter(cons.endpoint.caller.calls)).id
    # The manager of a server hears that a client is lost, but nobody tells it that the client is back.
    prov.endpoint.peer_gone("ws/cons", world.now, may_resume=True)
    world.inject("ws/cons", {"type": "query", "to": "ws/prov", "session": session})
    world.run()
    prov.endpoint.tick(world.now + 60.0)
    assert not prov.later[0].cancelled
    prov.later[0].answer("late")
    world.run()
    assert outcome.value() == "late"


def test_without_a_query_it_ends_after_a_grace(world: World, cons: Peer, prov: Peer) -> None:
    cons.ask("ws/prov", "services.demo.add", 1)
    cons.call("ws/prov", "services.demo.later")
    world.run()
    prov.endpoint.peer_gone("ws/cons", world.now, may_resume=True)
    prov.endpoint.tick(world.now + 60.0)
    assert prov.later[0].cancelled
