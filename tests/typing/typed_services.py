"""Checked by mypy and never run: the types that a program sees (test_typed_services.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, assert_type

from hypha_rpc import connect_to_server
from hypha_rpc.client.proxies import RemoteService
from hypha_rpc.client.server import Server
from hypha_rpc.objects import ObjectProxy
from hypha_rpc.utils.schema import Field, schema_function, schema_method, schema_service


class Calculator(Protocol):
    async def add(self, a: int, b: int) -> int: ...


class Concrete:
    version: str

    async def name(self) -> str:
        return ""


async def services() -> None:
    async with connect_to_server(server_url="http://localhost") as server:
        assert_type(server, Server)
        calculator = await server.get_service("calculator", Calculator)
        assert_type(calculator, Calculator)
        assert_type(await calculator.add(1, 2), int)
        assert_type(calculator.subtract, Any)  # type: ignore[attr-defined]
        await calculator.add("1")  # type: ignore[call-arg, arg-type]
        assert_type(await server.get_service("calculator", Calculator, timeout=3), Calculator)
        assert_type(await server.get_service("thing", Concrete), Concrete)
        assert_type(await server.get_service("calculator"), RemoteService)
        assert_type(await server.get_service("calculator", {"mode": "random"}), RemoteService)
        assert_type(await server.get_service("calculator", mode="random"), RemoteService)
        assert_type(await server.register_service({"id": "x"}), ObjectProxy)
        assert_type(server.generate_token, Any)
    assert_type(await connect_to_server({"server_url": "http://localhost"}), Server)


@schema_function
def plain(a: int, b: str = Field("x", description="text")) -> float:
    """Decorated without parentheses."""
    return 1.0


@schema_function(schema_type="native")
async def waiting(a: int) -> str:
    """Decorated with parentheses."""
    return ""


class Worker:
    @schema_method
    def work(self, hours: int) -> bool:
        """Work."""
        return True


assert_type(plain(1), float)
assert_type(plain(1, "y"), float)
plain("1")  # type: ignore[arg-type]
worked: Callable[[int], bool] = Worker().work
assert_type(schema_service(id="x", plain=plain), dict[str, Any])


async def decorated() -> None:
    assert_type(await waiting(1), str)
