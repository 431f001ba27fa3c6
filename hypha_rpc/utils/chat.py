"""An ASGI application with the chat interface that language-model clients speak (python-client §17.4).

``GET /v1/models`` and ``POST /v1/chat/completions``, streamed or not, over
functions of one's own. Written against plain ASGI, so that it needs no framework.
"""

from __future__ import annotations

import inspect
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

__all__ = ["create_openai_chat_server"]

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[Any]]
Model = Callable[[dict[str, Any]], Any]

_JSON: Final = (b"content-type", b"application/json")
_MAX_BODY: Final = 64 * 2**20


class _Refused(Exception):
    """A request that gets a status and a text instead of an answer."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class ChatApp:
    """The application. `create_openai_chat_server` makes it.

    Args:
        models: functions of the request by model name.
        cors: headers by which pages of other origins may call it, made from the request's origin.
    """

    def __init__(self, models: Mapping[str, Model], cors: _Cors) -> None:
        self._models = models
        self._cors = cors

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        origin = next((value for name, value in scope.get("headers", ()) if bytes(name).lower() == b"origin"), None)
        extra = self._cors.headers(bytes(origin) if origin is not None else None)
        if scope["method"] == "OPTIONS":
            await _respond(send, 200, b"OK", [(b"content-type", b"text/plain"), *extra])
            return
        try:
            await self._route(scope, receive, send, extra)
        except _Refused as refused:
            body = json.dumps({"detail": str(refused)}).encode()
            await _respond(send, refused.status, body, [_JSON, *extra])

    async def _route(self, scope: Mapping[str, Any], receive: Receive, send: Send, extra: _Headers) -> None:
        where = (scope["method"], scope["path"])
        if where == ("GET", "/v1/models"):
            await _respond(send, 200, json.dumps(self._listed()).encode(), [_JSON, *extra])
        elif where == ("POST", "/v1/chat/completions"):
            request = self._checked(await _body(receive))
            output = self._models[request["model"]](request)
            if inspect.isawaitable(output):
                output = await output
            await _answer(request, output, send, extra)
        else:
            raise _Refused(404, "Not Found")

    def _listed(self) -> dict[str, Any]:
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "hypha"} for name in self._models]
        return {"object": "list", "data": data}

    def _checked(self, body: bytes) -> dict[str, Any]:
        try:
            request = json.loads(body)
        except ValueError as error:
            raise _Refused(422, "The body is not JSON.") from error
        if not isinstance(request, dict) or not isinstance(request.get("model"), str):
            raise _Refused(422, "A model has to be named.")
        if request["model"] not in self._models:
            raise _Refused(404, f"Model {request['model']} not found.")
        messages = request.get("messages")
        if not isinstance(messages, list) or not messages:
            raise _Refused(400, "No messages provided.")
        if isinstance(messages[-1], dict) and messages[-1].get("role") == "assistant":
            raise _Refused(400, "The last message must not be from the assistant.")
        return request


_Headers = list[tuple[bytes, bytes]]


class _Cors:
    """Which other origins may call."""

    def __init__(self, origins: str | Iterable[str], credentials: bool, methods: Any, headers: Any) -> None:
        self._any = origins == "*"
        self._origins = frozenset() if isinstance(origins, str) else frozenset(origins)
        if isinstance(origins, str) and not self._any:
            self._origins = frozenset({origins})
        self._fixed: _Headers = [
            (b"access-control-allow-methods", _listed(methods, "GET, POST, OPTIONS")),
            (b"access-control-allow-headers", _listed(headers, "Authorization, Content-Type")),
        ]
        if credentials:
            self._fixed.append((b"access-control-allow-credentials", b"true"))

    def headers(self, origin: bytes | None) -> _Headers:
        """What a page of *origin* has to be told."""
        if origin is None or not (self._any or origin.decode("latin-1") in self._origins):
            return []
        return [(b"access-control-allow-origin", origin), (b"vary", b"Origin"), *self._fixed]


def _listed(given: str | Sequence[str], everything: str) -> bytes:
    if given == "*" or list(given) == ["*"]:
        return everything.encode()
    return (given if isinstance(given, str) else ", ".join(given)).encode()


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _Refused(400, "The request ended early.")
        body += message.get("body", b"")
        if len(body) > _MAX_BODY:
            raise _Refused(413, "The request is too large.")
        if not message.get("more_body"):
            return bytes(body)


async def _respond(send: Send, status: int, body: bytes, headers: _Headers) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def _answer(request: Mapping[str, Any], output: Any, send: Send, extra: _Headers) -> None:
    """Send what the model gave, in the way that was asked for."""
    frame = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": request["model"]}
    if request.get("stream"):
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"), *extra]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for piece in _pieces(output):
            event = _chunk(frame, piece)
            data = f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
        return
    answer = output if isinstance(output, dict) else _completion(frame, await _joined(output, request))
    await _respond(send, 200, json.dumps(answer, ensure_ascii=False).encode(), [_JSON, *extra])


async def _pieces(output: Any) -> AsyncIterator[Any]:
    if hasattr(output, "__aiter__"):
        async for piece in output:
            yield piece
    else:
        yield output


async def _joined(output: Any, request: Mapping[str, Any]) -> str:
    """The whole text; that of a generator is cut at ``max_tokens`` characters."""
    if not hasattr(output, "__aiter__"):
        return str(output)
    limit = request.get("max_tokens")
    text = ""
    async for piece in output:
        text += piece if isinstance(piece, str) else _text_of(piece)
        if limit is not None and len(text) >= limit:
            return text[:limit]
    return text


def _text_of(piece: Any) -> str:
    """The text in a chunk that a model gave in the format of the interface."""
    if not isinstance(piece, Mapping):
        return str(piece)
    parts = (choice.get("delta") or choice.get("message") or {} for choice in piece.get("choices", ()))
    return "".join(str(part.get("content") or "") for part in parts)


def _chunk(frame: Mapping[str, Any], piece: Any) -> dict[str, Any]:
    if isinstance(piece, dict):
        return piece
    choice = {"index": 0, "delta": {"role": "assistant", "content": str(piece)}, "finish_reason": None}
    return {**frame, "object": "chat.completion.chunk", "choices": [choice]}


def _completion(frame: Mapping[str, Any], text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    return {**frame, "object": "chat.completion", "choices": [choice], "usage": usage}


def create_openai_chat_server(
    model_registry: Mapping[str, Model],
    allow_origins: str | Iterable[str] = "*",
    allow_credentials: bool = True,
    allow_methods: Any = "*",
    allow_headers: Any = "*",
) -> ChatApp:
    """Make a chat server over functions.

    Args:
        model_registry: by name, functions of the request (a dictionary) that return a text, a whole answer
            as a dictionary, an awaitable of those, or an async generator of texts or chunks.
        allow_origins: origins whose pages may call it.
        allow_credentials: whether they may send credentials.
        allow_methods: methods they may use.
        allow_headers: headers they may send.

    Returns:
        An ASGI application, for `register_asgi_service` or any ASGI runner.
    """
    return ChatApp(dict(model_registry), _Cors(allow_origins, allow_credentials, allow_methods, allow_headers))
