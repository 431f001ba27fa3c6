"""The part that all socket transports share, with an engine that does exactly what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypha_rpc.transports import Buffer, Closed, Limits
from hypha_rpc.transports.pipe import Pipe

from .receivers import Recorder, settle


class ScriptedPipe(Pipe):
    """Notes what it is asked to write; a flag makes it resume its writer from within."""

    def __init__(self) -> None:
        super().__init__(Limits())
        self.written: list[object] = []
        self.resumes = False

    def _write_frame(self, parts: Sequence[Buffer]) -> None:
        self.written.append(b"".join(parts))
        if self.resumes:
            self._drained()

    def _write_text(self, text: str) -> None:
        self.written.append(text)

    def _write_close(self, code: int, reason: str) -> None:
        self.written.append((code, reason))

    def _hang_up(self) -> None:
        self._cut_later()

    def _cut(self) -> None:
        self._loop.call_soon(self._ended, Closed(1006, ""))


async def test_an_engine_that_resumes_inside_send_does_not_enter_the_receiver() -> None:
    pipe, recorder = ScriptedPipe(), Recorder()
    pipe.start(recorder)
    pipe.resumes = True
    pipe.send([b"1"])
    pipe.send([b"2"])
    assert recorder.drained == 0
    await settle()
    assert recorder.drained == 1
    await pipe.discard()


async def test_a_writer_that_is_full_again_is_not_announced() -> None:
    pipe, recorder = ScriptedPipe(), Recorder()
    pipe.start(recorder)
    pipe._drained()
    pipe._writable = False
    await settle()
    assert recorder.drained == 0
    await pipe.discard()


async def test_closing_after_the_peer_left_drops_what_was_kept() -> None:
    pipe, recorder = ScriptedPipe(), Recorder()
    pipe._frame(b"early")
    pipe._peer_left()
    pipe.close(1000)
    pipe.start(recorder)
    pipe._ended(Closed(1001, "bye"))
    await settle()
    assert recorder.events == [Closed(1001, "bye")]
    assert pipe.written == [], "the peer has said good-bye already"


async def test_frames_that_come_while_kept_ones_are_released_stay_behind_them() -> None:
    pipe, recorder = ScriptedPipe(), Recorder()
    pipe._frame(b"1")
    pipe.start(recorder)
    pipe._frame(b"2")
    assert recorder.events == []
    await settle()
    pipe._frame(b"3")
    assert recorder.events == [b"1", b"2", b"3"]
    await pipe.discard()


async def test_the_end_is_told_once_however_often_it_comes() -> None:
    pipe, recorder = ScriptedPipe(), Recorder()
    pipe.start(recorder)
    pipe._ended(Closed(1001, "first"))
    pipe._ended(Closed(1006, "second"))
    await settle()
    assert recorder.events == [Closed(1001, "first")]
    assert pipe.closed == Closed(1001, "first")


async def test_a_peer_that_breaks_a_rule_is_named_as_the_reason() -> None:
    pipe, recorder = ScriptedPipe(), Recorder()
    pipe.start(recorder)
    pipe._fail(1002, "a rule")
    pipe._fail(1009, "another one")
    pipe._frame(b"after")
    pipe._cut()
    await asyncio.wait_for(pipe.wait_closed(), 1)
    assert pipe.written == [(1002, "a rule")]
    assert recorder.events == [Closed(1002, "a rule")]
