"""Runs code blocks like cells of one notebook: ``python notebook.py CELL...``, with ``await`` at the top level."""

from __future__ import annotations

import ast
import asyncio
import inspect
import sys
from pathlib import Path
from types import FunctionType
from typing import Any


async def run(cells: dict[str, str]) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    for path, text in cells.items():
        code = compile(text, path, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        outcome = FunctionType(code, names)()
        if inspect.isawaitable(outcome):
            await outcome


if __name__ == "__main__":
    asyncio.run(run({path: Path(path).read_text("utf-8") for path in sys.argv[1:]}))
