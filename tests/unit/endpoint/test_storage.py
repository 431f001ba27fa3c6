"""Room for unfinished messages: in memory within bounds, else in a file nobody else can open (security S47)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hypha_rpc.areas import area
from hypha_rpc.endpoint import EndpointOptions
from hypha_rpc.endpoint.storage import RAM_ABROAD, RAM_ALL, AreaUnavailable, Storage, byte_area
from hypha_rpc.endpoint.transfers import MessageStore
from hypha_rpc.errors import LimitExceeded, MessageTooLarge

MB = 1_000_000


class Places:
    """An area factory that notes where each area would lie."""

    def __init__(self) -> None:
        self.made: list[tuple[int, bool]] = []
        self.real = False

    def __call__(self, size: int, in_file: bool) -> Any:
        self.made.append((size, in_file))
        return area(0, in_file) if self.real else byte_area(0, False)


def storage(**options: Any) -> tuple[Storage, Places]:
    places = Places()
    return Storage(EndpointOptions(areas=places, **options)), places


def test_a_sender_abroad_gets_32_mb_of_memory_then_a_file() -> None:
    room, places = storage()
    lots = [room.open("abroad/a", own=False) for _ in range(4)]
    for lot in lots:
        room.reserve(lot, 12 * MB)
    assert [in_file for _, in_file in places.made] == [False, False, True, True]
    assert room.ram == 24 * MB <= RAM_ABROAD
    other = room.open("abroad/b", own=False)
    room.reserve(other, 30 * MB)
    assert places.made[-1] == (30 * MB, False), "every sender has its own share"
    for lot in (*lots, other):
        room.close(lot)
    assert room.ram == 0


def test_all_together_get_256_mb_of_memory() -> None:
    room, places = storage()
    for number in range(5):
        room.reserve(room.open(f"ws/{number}", own=True), 60 * MB)
    assert [in_file for _, in_file in places.made] == [False] * 4 + [True]
    assert room.ram <= RAM_ALL


def test_bounds_of_size_and_number() -> None:
    room, _ = storage(max_partial_abroad=MB, max_partial_own=2 * MB, max_partial_per_sender=2)
    with pytest.raises(MessageTooLarge):
        room.reserve(room.open("abroad/a", own=False), MB + 1)
    room.reserve(room.open("ws/a", own=True), 2 * MB)
    room.open("ws/a", own=True)
    with pytest.raises(LimitExceeded, match="too many"):
        room.open("ws/a", own=True)


def test_without_files_the_rest_is_refused() -> None:
    with pytest.raises(AreaUnavailable):
        byte_area(1, True)
    assert byte_area(3, False).view() == bytes(3)


# -- areas -----------------------------------------------------------------------------------


@pytest.mark.parametrize("in_file", [False, True])
def test_an_area_gives_back_what_was_written(in_file: bool) -> None:
    room = area(10, in_file)
    room.write(0, b"hello")
    room.write(5, memoryview(b"world"))
    view = room.view()
    assert (bytes(view), room.read(3, 4)) == (b"helloworld", b"lowo")
    room.close()
    assert bytes(view) == b"helloworld", "a view stays valid"


@pytest.mark.parametrize("in_file", [False, True])
def test_what_was_not_written_is_zero(in_file: bool) -> None:
    room = area(6, in_file)
    room.write(0, b"ab")
    assert bytes(room.view()) == b"ab\0\0\0\0"
    room.close()


@pytest.mark.parametrize("in_file", [False, True])
def test_nothing_is_touched_before_it_is_written(in_file: bool) -> None:
    before = _resident()
    room = area(500 * MB, in_file)
    room.write(0, b"x")
    assert _resident() - before < 10 * MB
    room.close()


def test_pieces_in_a_file_do_not_count_as_memory() -> None:
    room, piece, before = area(100 * MB, True), bytes(MB), _resident()
    for number in range(100):
        room.write(number * MB, piece)
    assert _resident() - before < 10 * MB
    room.close()


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_the_file_has_no_name_and_nobody_elses_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    room: Any = area(10, True)
    room.write(0, b"secret")
    assert list(tmp_path.iterdir()) == []
    assert os.fstat(room._file.fileno()).st_mode & 0o077 == 0
    room.close()


def test_no_room_is_an_error_of_its_own() -> None:
    with pytest.raises(AreaUnavailable):
        area(2**62, False)


# -- messages by message_cache ---------------------------------------------------------------


def test_pieces_beyond_the_memory_go_to_a_file_and_come_back_in_order() -> None:
    room, places = storage()
    places.real = True
    store = MessageStore(EndpointOptions(), room)
    store.create("abroad/a", "k", overwrite=False, own=False, now=0.0)
    pieces = [bytes([number]) * (4 * MB) for number in range(12)]
    for number in reversed(range(12)):
        store.put("abroad/a", "k", number, pieces[number], 0.0)
    assert (0, True) in places.made
    assert room.ram <= RAM_ABROAD
    whole = store.take("abroad/a", "k")
    assert bytes(whole) == b"".join(pieces)
    assert (len(store), room.ram) == (0, 0)


def test_a_replaced_piece_is_the_new_one_wherever_it_lies() -> None:
    room, _ = storage()
    store = MessageStore(EndpointOptions(), room)
    store.create("abroad/a", "k", overwrite=False, own=False, now=0.0)
    for piece in (b"a" * 30 * MB, b"b" * 30 * MB, b"c" * 10):
        store.put("abroad/a", "k", 0, piece, 0.0)
    store.put("abroad/a", "k", None, b"end", 0.0)
    assert bytes(store.take("abroad/a", "k")) == b"c" * 10 + b"end"


def test_what_is_forgotten_frees_its_share() -> None:
    room, _ = storage(max_partial_per_sender=1)
    store = MessageStore(EndpointOptions(max_partial_per_sender=1), room)
    for end in (
        lambda: store.remove("ws/a", "k"),
        lambda: store.forget_sender("ws/a"),
        lambda: store.expire(1e9),
        store.clear,
        lambda: store.create("ws/a", "k", overwrite=True, own=True, now=0.0) or store.clear(),
    ):
        store.create("ws/a", "k", overwrite=False, own=True, now=0.0)
        store.put("ws/a", "k", 0, bytes(1000), 0.0)
        assert room.ram == 1000
        end()
        assert room.ram == 0
