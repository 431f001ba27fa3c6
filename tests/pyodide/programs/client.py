"""Runs inside Pyodide: the client, against a server and a CPython peer of the test."""

import asyncio
import json

from hypha_rpc import connect_to_server
from hypha_rpc.errors import RemoteException


async def count_to(limit):
    for number in range(limit):
        yield number


async def call_back(callback):
    return [await callback(number) for number in range(3)]


def fail(text):
    raise ValueError(text)


def keywords(first, *, second="default"):
    return [first, second]


async def use_peer(peer):
    """Calls from here to CPython."""
    heard = []
    result = {
        "echo": await peer.echo({"text": "grüße", "none": None, "numbers": [1, 2.5]})
        == {
            "text": "grüße",
            "none": None,
            "numbers": [1, 2.5],
        },
        "bytes": bytes(await peer.echo(b"\x00\xff")) == b"\x00\xff",
        "large": len(await peer.echo(bytes(2_000_000))),
        "keywords": await peer.keywords(1, second=2),
        "generator": [item async for item in await peer.count_to(5)],
        "callback": await peer.call_back(lambda number: heard.append(number) or number * 10),
        "heard": heard,
        "together": await asyncio.gather(*(peer.keywords(n) for n in range(20))) == [[n, "default"] for n in range(20)],
    }
    try:
        await peer.fail("from CPython")
    except RemoteException as error:
        result["error"] = "ValueError: from CPython" in str(error)
    return result


async def main():
    async with connect_to_server({"server_url": CONFIG["url"], "client_id": "in-pyodide"}) as server:  # noqa: F821
        info = await server.register_service(
            {
                "id": "page",
                "config": {"visibility": "public"},
                "echo": lambda value: value,
                "count_to": count_to,
                "call_back": call_back,
                "fail": fail,
                "keywords": keywords,
            }
        )
        peer = await server.get_service(CONFIG["peer"])  # noqa: F821
        result = {"calls": await use_peer(peer)}
        # The peer calls everything of ours, while we wait for it.
        result["served"] = await peer.use(info["id"])
    return json.dumps(result)


await main()  # noqa: F704 - the runner awaits the program
