"""Helpers at the path programs import them from."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from hypha_rpc.case import convert_case, to_camel_case, to_snake_case
from hypha_rpc.client.connect import parse_service_url
from hypha_rpc.client.events import MessageEmitter
from hypha_rpc.objects import DefaultObjectProxy, ObjectProxy
from hypha_rpc.utils.callables import callable_doc, callable_sig
from hypha_rpc.utils.stores import encode_zarr_store, register_default_codecs

__all__ = [
    "DefaultObjectProxy",
    "MessageEmitter",
    "ObjectProxy",
    "callable_doc",
    "callable_sig",
    "convert_case",
    "encode_zarr_store",
    "parse_service_url",
    "register_default_codecs",
    "run_in_executor",
    "to_camel_case",
    "to_snake_case",
]

T = TypeVar("T")


async def run_in_executor(func: Callable[..., T], *args: Any, executor: Executor | None = None, **kwargs: Any) -> T:
    """Run a blocking function in a thread and return its result.

    Args:
        func: the function.
        *args: its positional arguments.
        executor: where to run it; the loop's default executor if None.
        **kwargs: its keyword arguments.
    """
    return await asyncio.get_running_loop().run_in_executor(executor, functools.partial(func, *args, **kwargs))
