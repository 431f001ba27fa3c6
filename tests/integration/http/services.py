"""Start-up function of the server under test: services of every kind, in workspace ``public``."""

from __future__ import annotations

import asyncio
import builtins
import json
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route


def add(a: Any, b: Any = 1) -> Any:
    """Add two values.

    Args:
        a: the first.
        b: the second.
    """
    return a + b


def typed(text: str = "", number: float = 0.0, count: int = 0, flag: bool = False, items: list = ()) -> Any:
    """Show what arrived."""
    return {"text": text, "number": number, "count": count, "flag": flag, "items": items}


def show(**values: Any) -> Any:
    """Give the arguments back."""
    return values


def fail(kind: str = "ValueError", text: str = "bad value") -> None:
    """Raise."""
    raise getattr(builtins, kind)(text)


def special() -> Any:
    """Values that are no JSON by themselves."""
    return {"nan": float("nan"), "bytes": b"\x00\x01", "set": {1}, "function": add}


def octets(size: int) -> bytes:
    """So many bytes."""
    return b"\x07" * size


async def count(n: int) -> Any:
    """Yield numbers, then fail if *n* is negative."""
    for number in range(abs(n)):
        yield number
    if n < 0:
        raise RuntimeError("enough")


class Witness:
    """Remembers what became of calls that were left."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.produced = 0

    async def forever(self) -> Any:
        """Yield until closed."""
        try:
            while True:
                self.produced += 1
                yield "x" * 65_536
        finally:
            self.seen.append("closed")

    async def sleep(self) -> None:
        """Sleep until cancelled."""
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            raise

    def report(self) -> Any:
        """What was seen."""
        return {"seen": self.seen, "produced": self.produced}

    def forget(self) -> None:
        """Begin again."""
        self.seen.clear()
        self.produced = 0


def event(event: dict[str, Any]) -> dict[str, Any]:
    """Give the event back as JSON."""
    plain = {key: value for key, value in event.items() if not isinstance(value, bytes)}
    plain["body"] = event["body"].decode() if event["body"] is not None else None
    return {"status": 201, "headers": {"Content-Type": "application/json", "X-Own": "yes"}, "body": json.dumps(plain)}


def page(event: dict[str, Any]) -> dict[str, Any]:
    """A page."""
    return {"headers": {"content-type": "text/html"}, "body": "<p>hello</p>"}


def broken(event: dict[str, Any]) -> None:
    """Raise."""
    raise ValueError("zz")


def bad(event: dict[str, Any]) -> dict[str, Any]:
    """An answer that is no HTTP."""
    answers = {
        "status": {"status": 99},
        "header": {"headers": {"x\r\ny": "1"}},
        "value": {"headers": {"x": "1\r\nset-cookie: y"}},
        "kind": "text",
    }
    answer: dict[str, Any] = answers[event["query_string"]]
    return answer


def cookies(event: dict[str, Any]) -> dict[str, Any]:
    """Headers that a provider likes to set."""
    return {
        "headers": {
            "Set-Cookie": ["access_token=stolen", "own=1; Domain=example.org; Path=/", "__Host-x=1"],
            "Access-Control-Allow-Origin": "https://evil.example",
            "Access-Control-Allow-Credentials": "true",
            "Strict-Transport-Security": "max-age=1",
            "Clear-Site-Data": '"*"',
            "Connection": "close",
        },
        "body": "ok",
    }


async def _home(request: Request) -> Any:
    return JSONResponse({"root_path": request.scope["root_path"], "path": request.scope["path"]})


async def _upload(request: Request) -> Any:
    size = 0
    async for piece in request.stream():
        size += len(piece)
    return JSONResponse({"size": size})


async def _events(request: Request) -> Any:
    return StreamingResponse(_three(), media_type="text/event-stream")


async def _three() -> Any:
    for number in range(3):
        yield f"data: {number}\n\n"


async def _big(request: Request) -> Any:
    return StreamingResponse(_megabytes(int(request.query_params["n"])), media_type="application/octet-stream")


async def _megabytes(number: int) -> Any:
    for _ in range(number):
        yield b"z" * 1_000_000


async def _headers(request: Request) -> Any:
    return JSONResponse(dict(request.headers))


async def _text(request: Request) -> Any:
    return PlainTextResponse(request.method)


application = Starlette(
    routes=[
        Route("/", _home),
        Route("/upload", _upload, methods=["POST"]),
        Route("/events", _events),
        Route("/big", _big),
        Route("/headers", _headers),
        Route("/method", _text, methods=["GET", "PUT", "PATCH", "DELETE", "OPTIONS"]),
    ]
)


async def serve(args: dict[str, Any]) -> None:
    """The application as a service."""
    await application(args["scope"], args["receive"], args["send"])


async def silent(args: dict[str, Any]) -> None:
    """An application that says nothing."""


async def whoami(context: Any = None) -> Any:
    """Who calls."""
    return {"ws": context["ws"], "user": context["user"]["id"], "from": context["from"]}


SITE: dict[str, Any] = {
    "type": "functions",
    "index": page,
    "event": event,
    "api": {"v1": {"users": event, "index": page}},
    "broken": broken,
    "bad": bad,
    "cookies": cookies,
}


def services() -> list[dict[str, Any]]:
    """All of them, by id; everything is public unless it says otherwise."""
    witness = Witness()
    tools = {
        "id": "tools",
        "description": "Things to try",
        "add": add,
        "typed": typed,
        "show": show,
        "fail": fail,
        "special": special,
        "octets": octets,
        "count": count,
        "constant": 42,
        "texts": ["a", "b"],
        "nested": {"deep": {"add": add}},
        "witness": {
            "forever": witness.forever,
            "sleep": witness.sleep,
            "report": witness.report,
            "forget": witness.forget,
        },
    }
    return [
        tools,
        {"id": "site", **SITE},
        {"id": "fallback", "type": "functions", "default": event},
        {"id": "app", "type": "asgi", "serve": serve},
        {"id": "mute", "type": "asgi", "serve": silent},
        {"id": "who", "config": {"visibility": "public", "require_context": True}, "whoami": whoami},
    ]


async def hypha_startup(server: Any) -> None:
    """Register them."""
    for service in services():
        await server.register_service({"config": {"visibility": "public"}, **service})
