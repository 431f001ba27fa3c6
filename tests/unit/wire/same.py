"""Equality that notices types, dtypes, nan and the sign of zero."""

from __future__ import annotations

from typing import Any

import numpy
import pydantic


def same(left: Any, right: Any) -> bool:
    """Whether two decoded values are the same for a program."""
    if isinstance(left, numpy.ndarray) or isinstance(right, numpy.ndarray):
        return _same_arrays(numpy.asarray(left), numpy.asarray(right))
    if isinstance(left, float) and isinstance(right, float):
        return repr(left) == repr(right)
    if isinstance(left, pydantic.BaseModel) and isinstance(right, pydantic.BaseModel):
        return left.model_dump() == right.model_dump()
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(same(item, right[key]) for key, item in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and bool(left == right)


def _same_arrays(left: Any, right: Any) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
