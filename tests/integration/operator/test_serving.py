"""ASGI applications as services (python-client §17.4, §19)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hypha_rpc.utils.serve import create_openai_chat_server, main, main_entry, register_asgi_service


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Says what it was asked."""
    body = (await receive())["body"]
    said = {key: scope[key] for key in ("type", "method", "path")}
    pairs = [isinstance(pair, tuple) for pair in scope["headers"]]
    answer = json.dumps({**said, "body": body.decode(), "pairs": all(pairs)}).encode()
    await send({"type": "http.response.start", "status": 201, "headers": [[b"x-a", b"b"]]})
    await send({"type": "http.response.body", "body": answer})


class Exchange:
    """One request, and what was sent in answer."""

    def __init__(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [[name.encode(), value.encode()] for name, value in headers.items()],
        }
        self._body = body
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return {bytes(name): bytes(value) for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(bytes(message["body"]) for message in self.sent[1:])

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def arguments(self) -> dict[str, Any]:
        return {"scope": self.scope, "receive": self.receive, "send": self.send}


async def test_an_application_is_a_service_of_type_asgi(client):
    info = await register_asgi_service(client, "web", application, service_name="My web")
    assert (info["type"], info["name"], info["config"]["visibility"]) == ("asgi", "My web", "public")
    service = await client.get_service("web")
    exchange = Exchange("POST", "/a/b", b"hello", accept="x")
    await service.serve(exchange.arguments)
    assert (exchange.status, exchange.headers) == (201, {b"x-a": b"b"})
    assert exchange.json == {"type": "http", "method": "POST", "path": "/a/b", "body": "hello", "pairs": True}


async def test_an_error_of_the_application_reaches_the_server(client):
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("out of order")

    await register_asgi_service(client, "web", broken)
    with pytest.raises(RuntimeError, match="out of order"):
        await (await client.get_service("web")).serve(Exchange("GET", "/").arguments)


async def test_a_check_of_the_context_can_refuse(client):
    seen: list[str] = []

    async def check(context: Any) -> None:
        seen.append(context["ws"])
        if len(seen) > 1:
            raise PermissionError("once only")

    await register_asgi_service(client, "web", application, check, visibility="protected")
    service = await client.get_service("web")
    await service.serve(Exchange("GET", "/").arguments)
    with pytest.raises(PermissionError, match="once only"):
        await service.serve(Exchange("GET", "/").arguments)
    assert seen == [client.config.workspace] * 2


async def text_model(request: Any) -> str:
    return f"You said {request['messages'][-1]['content']}"


async def generator_model(request: Any) -> Any:
    for word in ("one ", "two ", "three"):
        yield word


CHAT = create_openai_chat_server(
    {
        "text": text_model,
        "plain": lambda request: "plain",
        "whole": lambda request: {"object": "chat.completion", "choices": []},
        "words": generator_model,
    },
    allow_origins=["https://a.example"],
)


async def chat(**request: Any) -> Exchange:
    body = {"messages": [{"role": "user", "content": "hi"}], **request}
    exchange = Exchange("POST", "/v1/chat/completions", json.dumps(body).encode(), origin="https://a.example")
    await CHAT(**exchange.arguments)
    return exchange


def said(exchange: Exchange) -> str:
    return str(exchange.json["choices"][0]["message"]["content"])


async def test_models_are_listed():
    exchange = Exchange("GET", "/v1/models")
    await CHAT(**exchange.arguments)
    assert [model["id"] for model in exchange.json["data"]] == ["text", "plain", "whole", "words"]
    assert b"access-control-allow-origin" not in exchange.headers


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"model": "text"}, "You said hi"),
        ({"model": "plain"}, "plain"),
        ({"model": "words"}, "one two three"),
        ({"model": "words", "max_tokens": 5}, "one t"),
        ({"model": "words", "max_tokens": None}, "one two three"),
        ({"model": "text", "max_tokens": 3}, "You said hi"),
    ],
)
async def test_an_answer_in_one_piece(request_, text):
    exchange = await chat(**request_)
    assert (exchange.status, said(exchange)) == (200, text)
    assert exchange.headers[b"access-control-allow-origin"] == b"https://a.example"


async def test_a_model_may_give_the_whole_answer():
    assert (await chat(model="whole")).json == {"object": "chat.completion", "choices": []}


async def test_an_answer_in_a_stream():
    exchange = await chat(model="words", stream=True)
    assert exchange.headers[b"content-type"].startswith(b"text/event-stream")
    *events, last, end = exchange.body.decode().split("\n\n")
    assert (last, end) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == ["one ", "two ", "three"]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"model": "none"}, 404),
        ({"model": "text", "messages": []}, 400),
        ({"model": "text", "messages": [{"role": "assistant", "content": "x"}]}, 400),
        ({}, 422),
    ],
)
async def test_a_request_that_is_none_is_refused(request_, status):
    exchange = await chat(**request_)
    assert exchange.status == status
    assert exchange.json["detail"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "Either --token or --login must be provided."),
        (["--token", "x", "--login"], "Cannot use --token when --login is enabled."),
    ],
)
def test_the_command_wants_a_token_or_a_login(options: list[str], text: str):
    with pytest.raises(ValueError, match=text):
        main_entry(["module:app", "--id", "x", "--server-url", "http://localhost:1", *options])


def test_the_command_refuses_what_is_no_application():
    with pytest.raises(TypeError, match="sys:path is no ASGI application"):
        main_entry(["sys:path", "--id", "x", "--server-url", "http://localhost:1", "--token", "t"])


def test_the_command_is_there_as_a_function():
    assert main.__name__ == "main"
