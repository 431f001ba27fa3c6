"""What a single call is told beside its arguments (`RemoteFunction.options`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["DEFAULTS", "CallSettings", "Progress"]

Progress = Callable[[int, int], Any]
"""Told how many of how many bytes of a big argument or result have moved."""


@dataclass(frozen=True, slots=True)
class CallSettings:
    """Settings of a call.

    Attributes:
        timeout: seconds until the call fails, from the moment it is made; the deadline travels.
        silence: longest silence of the callee in seconds; default ``method_timeout``.
        progress: told of big values under way.
    """

    timeout: float | None = None
    silence: float | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        for name, value in (("timeout", self.timeout), ("silence", self.silence)):
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
                raise TypeError(f"{name} must be a number of seconds, not {value!r}")
            if value <= 0:
                raise ValueError(f"{name} must be more than 0 seconds, not {value!r}")
        if self.progress is not None and not callable(self.progress):
            raise TypeError(f"progress must be a function (done, total), not {self.progress!r}")


DEFAULTS = CallSettings()
