"""The producing end of a generator: one item a call, closed early or exhausted, then forgotten (protocol §3.5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

__all__ = ["Producer"]

_END: Final = {"_rtype": "stop_iteration"}


class Producer:
    """Serves the items of an iterator, plain or async.

    Args:
        source: the iterator.
        forget: called once when it is exhausted, has failed, or was closed.
    """

    def __init__(self, source: Any, forget: Callable[[], None]) -> None:
        self._source = source
        self._forget: Callable[[], None] | None = forget
        self._async = hasattr(type(source), "__anext__")

    def next(self, most: Any = None) -> Any:
        """The next item, or the end marker; awaitable for an async source.

        Args:
            most: given by a consumer of level 1, who then gets a list (extensions §3, ``pull``). A list of
                one never holds a ready item back.
        """
        if most is None:
            return self._next_async() if self._async else self._next()
        return self._listed_async() if self._async else _listed(self._next())

    def close(self) -> Any:
        """End the iterator; its ``finally`` runs. Awaitable for an async source."""
        self._finished()
        if self._async:
            return self._close_async()
        close = getattr(self._source, "close", None)
        if close is not None:
            close()
        return True

    def _next(self) -> Any:
        try:
            return next(self._source)
        except StopIteration:
            self._finished()
            return dict(_END)
        except BaseException:
            self._finished()
            raise

    async def _next_async(self) -> Any:
        try:
            return await self._source.__anext__()
        except StopAsyncIteration:
            self._finished()
            return dict(_END)
        except BaseException:
            self._finished()
            raise

    async def _listed_async(self) -> dict[str, Any]:
        return _listed(await self._next_async())

    async def _close_async(self) -> bool:
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()
        return True

    def _finished(self) -> None:
        forget, self._forget = self._forget, None
        if forget is not None:
            forget()


def _listed(item: Any) -> dict[str, Any]:
    """One item, or the end, in the form of a list."""
    over = item == _END if isinstance(item, dict) else False
    return {"_rtype": "items", "_rvalue": [] if over else [item], "_rend": over}
