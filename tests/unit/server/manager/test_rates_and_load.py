from __future__ import annotations

import pytest

from hypha.auth.rates import PerMinute
from hypha.manager.load import LoadMeter


def test_a_minutes_worth_may_be_taken_at_once_and_comes_back_steadily() -> None:
    rate = PerMinute(60)
    assert [rate.take("alice", 0.0) for _ in range(61)] == [True] * 60 + [False]
    assert not rate.take("alice", 0.9)
    assert rate.take("alice", 1.1)
    assert not rate.take("alice", 1.2)


def test_everybody_has_a_bucket() -> None:
    rate = PerMinute(1)
    assert rate.take("alice", 0.0)
    assert rate.take("bob", 0.0)
    assert not rate.take("alice", 0.0)


def test_quiet_ones_are_forgotten_when_there_are_many() -> None:
    rate = PerMinute(1)
    for number in range(10_000):
        rate.take(str(number), 0.0)
    rate.take("busy", 30.0)
    assert len(rate) == 10_000
    rate.take("new", 61.0)
    assert len(rate) == 2


def test_load_is_frames_a_minute_since_the_client_came() -> None:
    meter = LoadMeter()
    meter.start("w/a__rlb", 10, 0.0)
    assert meter.per_minute("w/a__rlb", 10, 30.0) == 0.0
    assert meter.per_minute("w/a__rlb", 40, 30.0) == pytest.approx(60.0)


def test_load_forgets_what_is_long_ago() -> None:
    meter = LoadMeter()
    meter.start("w/a__rlb", 0, 0.0)
    assert meter.per_minute("w/a__rlb", 600, 60.0) == pytest.approx(600.0)
    assert meter.per_minute("w/a__rlb", 600, 120.0) == pytest.approx(0.0)
    assert meter.per_minute("w/a__rlb", 630, 150.0) == pytest.approx(20.0)


def test_the_first_moment_does_not_count_as_a_flood() -> None:
    meter = LoadMeter()
    meter.start("w/a__rlb", 0, 0.0)
    assert meter.per_minute("w/a__rlb", 1, 0.0) == 60.0


def test_only_clients_of_the_right_name_are_measured() -> None:
    meter = LoadMeter()
    meter.start("w/a", 0, 0.0)
    assert len(meter) == 0
    assert meter.per_minute("w/a", 1000, 1.0) == 0.0


def test_a_stopped_client_is_forgotten() -> None:
    meter = LoadMeter()
    meter.start("w/a__rlb", 0, 0.0)
    meter.stop("w/a__rlb")
    meter.stop("w/a__rlb")
    assert len(meter) == 0
