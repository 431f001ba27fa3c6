"""How much better ours has to be for ``--check`` to pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from results import Row


@dataclass(frozen=True)
class Gate:
    """A lower limit of one ratio.

    Attributes:
        name: What it promises.
        workload: The row it looks at.
        minimum: The ratio it wants.
        process: Compare the CPU time per call of this process instead of the value.
    """

    name: str
    workload: str
    minimum: float
    process: str = ""


@dataclass(frozen=True)
class Verdict:
    """What became of a gate; ``ratio`` is None when it was not measured."""

    gate: Gate
    ratio: float | None

    @property
    def passed(self) -> bool:
        """Whether the ratio is there and large enough."""
        return self.ratio is not None and self.ratio >= self.gate.minimum

    def __str__(self) -> str:
        measured = "not measured" if self.ratio is None else f"{self.ratio:.1f}x"
        return f"{'pass' if self.passed else 'FAIL'}  {self.gate.name}: {measured}, wanted {self.gate.minimum:g}x"


GATES = (
    Gate("latency of one call at a time, lower", "latency", 4),
    Gate("64 calls in flight, more calls a second", "in_flight_64", 8),
    Gate("64 calls in flight, less CPU of the server a call", "in_flight_64", 8, process="server"),
    Gate("echo of 16 MB bytes, faster", "bytes_16MB", 4),
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
            verdicts.append(Verdict(gate, row.cpu_ratio(gate.process) if gate.process else row.ratio()))
        elif everything:
            verdicts.append(Verdict(gate, None))
    return verdicts
