"""How much better ours has to be for ``--check`` to pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from results import Row
from sides import OURS


@dataclass(frozen=True)
class Gate:
    """A lower limit of one ratio.

    Attributes:
        name: What it promises.
        workload: The row it looks at.
        minimum: The ratio it wants.
        process: Compare the CPU time per call of this process instead of the value.
        own: Take our value as it is, without the public side.
        most: Our value as it is may not be larger.
    """

    name: str
    workload: str
    minimum: float = 0.0
    process: str = ""
    own: bool = False
    most: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What became of a gate; ``ratio`` is None when it was not measured."""

    gate: Gate
    ratio: float | None

    @property
    def passed(self) -> bool:
        """Whether the ratio is there and large enough."""
        if self.ratio is None:
            return False
        return self.ratio >= self.gate.minimum if self.gate.most is None else self.ratio <= self.gate.most

    def __str__(self) -> str:
        gate = self.gate
        unit, wanted = ("x", f"{gate.minimum:g}x") if gate.most is None else ("", f"at most {gate.most:g}")
        measured = "not measured" if self.ratio is None else f"{self.ratio:.2f}{unit}"
        return f"{'pass' if self.passed else 'FAIL'}  {gate.name}: {measured}, wanted {wanted}"


GATES = (
    Gate("latency of one call at a time, lower", "latency", 4),
    Gate("64 calls in flight, more calls a second", "in_flight_64", 8),
    Gate("64 calls in flight, less CPU of the server a call", "in_flight_64", 8, process="server"),
    Gate("echo of 16 MB bytes, faster", "bytes_16MB", 20),
    Gate("echo of a 16 MB array, faster", "array_16MB", 20),
    Gate("echo of a 100 MB array, faster", "array_100MB", 15),
    Gate("peak extra memory of a client in an echo of 100 MB, in its sizes", "array_100MB_memory", most=2),
    Gate("a small call beside an echo of 100 MB, in milliseconds", "small_beside_100MB", most=10),
    Gate("latency of one blocking call at a time, lower", "blocking_latency", 4),
    Gate("a blocking call beside an awaited one, µs of CPU more", "blocking_overhead", most=60),
    Gate("stream of small items, more items a second", "generator", 50),
    Gate("stream of 1 MB items, more items a second", "generator_1MB", 10),
    Gate("HTTP calls one at a time, more a second", "http_sequential", 15),
    Gate("HTTP calls, 32 in flight, more a second", "http_in_flight_32", 15),
    Gate("start of the server, sooner", "server_start", 2),
    Gate("memory of an idle server, less", "server_memory", 2),
    # At most a quarter more than what its libraries alone cost.
    Gate("importing its libraries, of the start of the server", "server_start_share", 0.8, own=True),
    Gate("its libraries, of the memory of an idle server", "server_memory_share", 0.8, own=True),
)


def judge(rows: Sequence[Row], *, everything: bool) -> list[Verdict]:
    """Compare the rows with the gates.

    Args:
        rows: What was measured.
        everything: Whether gates without a row count (they fail).
    """
    found = {row.workload.name: row for row in rows}
    verdicts = []
    for gate in GATES:
        row = found.get(gate.workload)
        if row is not None:
            verdicts.append(Verdict(gate, _ratio(gate, row)))
        elif everything:
            verdicts.append(Verdict(gate, None))
    return verdicts


def _ratio(gate: Gate, row: Row) -> float | None:
    if gate.own or gate.most is not None:
        return row.median(OURS)
    return row.cpu_ratio(gate.process) if gate.process else row.ratio()
