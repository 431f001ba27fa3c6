"""Measurements of all rounds, their medians and ratios."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from sides import OURS, PUBLIC
from stage import Measurement
from workloads import Workload

PROCESSES = ("server", "callee", "caller")


@dataclass
class Row:
    """One workload's rounds: for each side a measurement a round."""

    workload: Workload
    rounds: list[dict[str, Measurement]] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)

    def median(self, side: str) -> float | None:
        """The median of one side's values."""
        values = [item[side].value for item in self.rounds if side in item]
        return statistics.median(values) if values else None

    def cpu(self, side: str, process: str) -> float | None:
        """The median CPU seconds per call of one process."""
        values = [item[side].cpu[process] for item in self.rounds if side in item and process in item[side].cpu]
        return statistics.median(values) if values else None

    def ratio(self) -> float | None:
        """The median of the rounds' ratios: how many times better ours is."""
        ratios = []
        for ours, public in self._pairs():
            better, worse = (public, ours) if self.workload.lower_is_better else (ours, public)
            if worse.value > 0:
                ratios.append(better.value / worse.value)
        return statistics.median(ratios) if ratios else None

    def cpu_ratio(self, process: str) -> float | None:
        """The median of the rounds' ratios public to ours of the CPU time per call of one process."""
        ratios = [
            public.cpu[process] / ours.cpu[process]
            for ours, public in self._pairs()
            if ours.cpu.get(process, 0) > 0 and process in public.cpu
        ]
        return statistics.median(ratios) if ratios else None

    def _pairs(self) -> list[tuple[Measurement, Measurement]]:
        return [(item[OURS], item[PUBLIC]) for item in self.rounds if OURS in item and PUBLIC in item]
