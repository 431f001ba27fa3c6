"""Any order of calls and faults: every call settles once, nothing runs twice, nothing is left (RELIABILITY §3).

A failing run prints its steps and a blob that reproduces it. ``HYPHA_SLOW_TESTS=1`` explores a hundred times more.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hypha_rpc.endpoint import Reference
from hypha_rpc.errors import CallCancelled, HyphaError
from tests.unit.endpoint.faulty import FaultyWorld
from tests.unit.endpoint.world import Later, Outcome, Peer

SLOW = os.environ.get("HYPHA_SLOW_TESTS") == "1"
ADDRESSES = ["ws/a", "ws/b", "other/c"]
CHUNK = 400
BIG = b"x" * 3000

addresses = st.sampled_from(ADDRESSES)
numbers = st.integers(0, 7)
promises = st.sampled_from(["*", "*", "*", True])


@dataclass
class Made:
    """One call that was made."""

    outcome: Outcome
    token: str
    expected: Any
    abandoned: bool = False


class Conversation(RuleBasedStateMachine):
    """Three peers in two workspaces."""

    def __init__(self) -> None:
        super().__init__()
        self.world = FaultyWorld()
        self.made: list[Made] = []
        self.ran: Counter[str] = Counter()
        self.makers: dict[str, list[Any]] = {address: [] for address in ADDRESSES}
        self.laters: list[Later] = []
        self.tokens = 0
        for address in ADDRESSES:
            self.join(address)

    def join(self, address: str) -> None:
        peer = self.world.born(address, chunk_size=CHUNK)
        functions = _Functions(self, peer)
        names = ("echo", "fail", "later", "callback", "maker")
        peer.offer("s", {name: getattr(functions, name) for name in names})
        peer.later = self.laters
        self.makers[address].clear()

    def token(self) -> str:
        self.tokens += 1
        return f"t{self.tokens}"

    def remember(self, outcome: Outcome, token: str, expected: Any) -> None:
        self.made.append(Made(outcome, token, expected))

    # -- calls

    @rule(
        caller=addresses,
        callee=addresses,
        promise=promises,
        method=st.sampled_from(["echo", "fail", "later"]),
        big=st.booleans(),
    )
    def call(self, caller: str, callee: str, promise: Any, method: str, big: bool) -> None:
        if caller == callee:
            return
        token, value = self.token(), BIG if big else b"small"
        outcome = self.world.peers[caller].call(callee, f"services.s.{method}", token, value, promise=promise)
        self.remember(outcome, token, None if method == "fail" else [token, value])

    @rule(caller=addresses, callee=addresses, count=st.integers(0, 2), big=st.booleans())
    def call_with_callback(self, caller: str, callee: str, count: int, big: bool) -> None:
        if caller == callee:
            return
        token = self.token()

        def callback(inner: str, value: bytes) -> list[Any]:
            self.ran[inner] += 1
            return [inner, value]

        outcome = self.world.peers[caller].call(callee, "services.s.callback", token, callback, count, big)
        self.remember(outcome, token, [token, count])

    @rule(caller=addresses, callee=addresses)
    def call_for_a_function(self, caller: str, callee: str) -> None:
        if caller == callee:
            return
        token, outcome = self.token(), _Keeping(self.makers[caller])
        peer = self.world.peers[caller]
        peer.endpoint.call(Reference(callee, "services.s.maker"), [token], None, outcome, self.world.now)
        self.remember(outcome, token, ...)

    @rule(caller=addresses, which=numbers)
    def call_a_function_of_a_result(self, caller: str, which: int) -> None:
        if self.makers[caller]:
            proxy = self.makers[caller][which % len(self.makers[caller])]
            token = self.token()
            self.remember(proxy(token), token, token)

    @rule(caller=addresses, which=numbers)
    def let_go_of_a_function_of_a_result(self, caller: str, which: int) -> None:
        if self.makers[caller]:
            del self.makers[caller][which % len(self.makers[caller])]
            self.forget_functions(caller)

    def forget_functions(self, holder: str) -> None:
        """What *holder* no longer refers to is reported, as its driver would."""
        for made in self.made:
            if made.expected is ...:
                made.outcome.results[:] = [True] * len(made.outcome.results)
        self.world.peers[holder].let_go()

    @rule(caller=addresses, callee=addresses)
    def fire_and_forget(self, caller: str, callee: str) -> None:
        if caller != callee:
            token = self.token()
            self.world.peers[caller].call(callee, "services.s.echo", token, BIG, promise=False)

    @precondition(lambda self: self.made)
    @rule(which=st.integers(0, 100))
    def abandon(self, which: int) -> None:
        made = self.made[which % len(self.made)]
        for peer in self.world.peers.values():
            for call in peer.endpoint.caller.calls:
                if call.waiter is made.outcome:
                    peer.endpoint.abandon(call.id)
                    made.abandoned = True

    # -- what goes on

    @precondition(lambda self: self.world.busy())
    @rule(which=numbers, count=st.integers(1, 12))
    def deliver(self, which: int, count: int) -> None:
        busy = self.world.busy()
        pair = busy[which % len(busy)]
        for _ in range(min(count, len(self.world.queues[pair]))):
            if self.world.queues[pair]:
                self.world.deliver(pair)

    @precondition(lambda self: self.laters)
    @rule(which=numbers, good=st.booleans())
    def answer(self, which: int, good: bool) -> None:
        later = self.laters.pop(which % len(self.laters))
        self.end(later, good=good)

    def end(self, later: Any, *, good: bool = True) -> None:
        if later.cancelled:
            later.fail(CallCancelled("cancelled"))
        elif good:
            later.answer(later.value)
        else:
            later.fail(ValueError("bad"))

    @rule(seconds=st.sampled_from([0.1, 0.6, 2.1, 3.1, 16.0, 31.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.tick(seconds)

    # -- faults

    @precondition(lambda self: self.world.busy())
    @rule(which=numbers)
    def lose(self, which: int) -> None:
        busy = self.world.busy()
        self.world.lose(busy[which % len(busy)])

    @precondition(lambda self: self.world.busy())
    @rule(which=numbers)
    def repeat(self, which: int) -> None:
        busy = self.world.busy()
        self.world.repeat(busy[which % len(busy)])

    @rule(address=addresses, survive=st.integers(0, 5), written=st.booleans())
    def link_breaks(self, address: str, survive: int, written: bool) -> None:
        if address not in self.world.down:
            self.world.break_link(address, survive=survive, written=written)

    @rule(address=addresses, resumed=st.booleans())
    def link_is_back(self, address: str, resumed: bool) -> None:
        if address in self.world.down:
            self.world.restore_link(address, resumed=resumed)

    @rule(address=addresses)
    def process_restarts(self, address: str) -> None:
        self.world.end_life(address)
        self.join(address)

    # -- what always holds

    @invariant()
    def nothing_ran_twice(self) -> None:
        assert not [token for token, count in self.ran.items() if count > 1]

    @invariant()
    def nothing_settled_twice_or_wrongly(self) -> None:
        for made in self.made:
            assert made.outcome.settled <= 1
            for result in made.outcome.results:
                assert made.expected is ... or result == made.expected
                assert self.ran[made.token] == 1
            for error in made.outcome.errors:
                assert isinstance(error, (HyphaError, ValueError)), error

    def teardown(self) -> None:
        self.faults_stop()
        for made in self.made:
            assert made.outcome.settled == (0 if made.abandoned else 1), made
        for peer in self.world.peers.values():
            assert not any(peer.stats().values()), (peer.address, peer.stats())
            assert peer.endpoint.tick(self.world.now) is None
        self.nothing_ran_twice()
        self.nothing_settled_twice_or_wrongly()

    def faults_stop(self) -> None:
        """Links are up, functions end, time passes: silence (30 s), then the life of unused functions (600 s)."""
        for address in sorted(self.world.down):
            self.world.restore_link(address, resumed=False)
        for seconds in [1.0] * 8 + [31.0] * 4 + [100.0] * 8:
            self.world.run()
            while self.laters:
                self.end(self.laters.pop())
            self.world.run()
            self.world.tick(seconds)
        for address in ADDRESSES:
            self.makers[address].clear()
            self.forget_functions(address)
        self.world.run()
        for _ in range(8):
            self.world.tick(100.0)
            self.world.run()


class _Keeping(Outcome):
    """Keeps the functions that a result brings."""

    def __init__(self, kept: list[Any]) -> None:
        super().__init__()
        self._kept = kept

    def set_result(self, result: Any, /) -> None:
        super().set_result(result)
        self._kept.append(result)


class _Functions:
    """What each peer offers; counts what ran."""

    def __init__(self, machine: Conversation, peer: Peer) -> None:
        self._machine = machine
        self._peer = peer

    def echo(self, token: str, value: bytes) -> list[Any]:
        self._machine.ran[token] += 1
        return [token, value]

    def fail(self, token: str, value: bytes) -> None:
        self._machine.ran[token] += 1
        raise ValueError(f"{token} {len(value)}")

    def later(self, token: str, value: bytes) -> Later:
        self._machine.ran[token] += 1
        return _With([token, value])

    def callback(self, token: str, callback: Any, count: int, big: bool) -> Later:
        self._machine.ran[token] += 1
        for _ in range(count):
            inner, value = self._machine.token(), BIG if big else b"small"
            self._machine.remember(callback(inner, value), inner, [inner, value])
        return _With([token, count])

    def maker(self, token: str) -> Any:
        self._machine.ran[token] += 1
        return self._count

    def _count(self, token: str) -> str:
        self._machine.ran[token] += 1
        return token


class _With(Later):
    """Answers later with a value."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


Conversation.TestCase.settings = settings(
    max_examples=int(os.environ.get("HYPHA_EXAMPLES", "3000")) if SLOW else 60,
    stateful_step_count=120 if SLOW else 40,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.timeout(3600 if SLOW else 60)
class TestConversation(Conversation.TestCase):  # type: ignore[name-defined, misc]
    """Runs the machine."""
