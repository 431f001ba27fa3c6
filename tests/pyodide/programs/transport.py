"""Runs inside Pyodide: the transport against the echo server of the test."""

import asyncio
import gc
import json
import sys
import time
import weakref

import hypha_rpc.transports as transports
from hypha_rpc.transports import Credentials, OpenOptions

loaded = {name for name in sys.modules if name.split(".")[0] in {"picows", "websockets", "numpy", "httpx2", "urllib3"}}
assert not loaded, loaded
assert "urllib.request" not in sys.modules, "too heavy for a page"

CREDENTIALS = Credentials(client_id="pyodide-1", token="secret")
MIB = 1024 * 1024
URLS = CONFIG  # noqa: F821 - set by the runner


class Recorder:
    def __init__(self):
        self.events = []
        self.drained = 0
        self.changed = asyncio.Event()

    def on_frame(self, data):
        self.events.append(bytes(data))
        self.changed.set()

    def on_control(self, message):
        self.events.append(message)
        self.changed.set()

    def on_writable(self):
        self.drained += 1
        self.changed.set()

    def on_closed(self, closed):
        self.events.append(closed)
        self.changed.set()

    async def until(self, condition):
        async with asyncio.timeout(20):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


async def connect(url, **options):
    transport, info = await transports.default_connector().open(OpenOptions(url, timeout_s=10, **options), CREDENTIALS)
    assert info["type"] == "connection_info", info
    recorder = Recorder()
    transport.start(recorder)
    return transport, recorder


async def frames_come_back():
    transport, recorder = await connect(URLS["echo"], ssl=False, headers=[("X", "ignored")])
    assert type(transport).__name__ == "PyodideTransport"
    payloads = [b"", b"x", b"\x00\xff" * 300, bytes(range(256)) * 4096]
    for payload in payloads:
        transport.send([payload])
    transport.send([b"head", memoryview(b"xbodyx")[1:-1], bytearray(b"tail"), b""])
    transport.send_control({"type": "ping", "text": "grüße"})
    await recorder.until(lambda: len(recorder.events) == 6)
    assert recorder.events == [*payloads, b"headbodytail", {"type": "ping", "text": "grüße"}]
    transport.close(4001, "enough")
    transport.send([b"dropped"])
    await transport.wait_closed()
    await recorder.until(lambda: len(recorder.events) == 7)
    assert recorder.events[-1].code == 4001, recorder.events[-1]
    transport.close()
    return True


async def a_thousand_frames_keep_their_order():
    transport, recorder = await connect(URLS["echo"])
    for index in range(1000):
        transport.send([index.to_bytes(4, "big")])
    await recorder.until(lambda: len(recorder.events) == 1000)
    assert recorder.events == [index.to_bytes(4, "big") for index in range(1000)]
    transport.close()
    await transport.wait_closed()
    return True


async def large_frames_and_back_pressure():
    transport, recorder = await connect(URLS["echo"])
    began = time.monotonic()
    transport.send([bytes(8 * MIB), b"\x01" * 8 * MIB])
    assert not transport.writable
    await recorder.until(lambda: recorder.events)
    assert recorder.events == [bytes(8 * MIB) + b"\x01" * 8 * MIB]
    await recorder.until(lambda: recorder.drained)
    assert transport.writable
    seconds = time.monotonic() - began
    transport.close()
    await transport.wait_closed()
    return round(16 / seconds, 1)


async def early_frames_are_kept():
    transport, _ = await transports.default_connector().open(OpenOptions(URLS["early"]), CREDENTIALS)
    await asyncio.sleep(0.1)
    recorder = Recorder()
    transport.start(recorder)
    await recorder.until(lambda: len(recorder.events) == 3)
    assert recorder.events[:2] == [b"before", b"after"], recorder.events
    assert tuple(recorder.events[2]) == (1001, "done"), recorder.events
    return True


async def failure(url, timeout_s=10.0):
    try:
        await transports.default_connector().open(OpenOptions(url, timeout_s=timeout_s), CREDENTIALS)
    except ConnectionError as error:
        return [type(error).__name__, str(error)]
    return None


async def one_connection():
    transport, recorder = await connect(URLS["echo"])
    transport.close()
    await transport.wait_closed()
    await recorder.until(lambda: recorder.events)
    return weakref.ref(transport)


async def connections_leave_nothing():
    alive = [await one_connection() for _ in range(100)]
    await asyncio.sleep(0.05)
    gc.collect()
    # JavaScript holds on to a Python object through its proxy until that is destroyed.
    return sum(reference() is not None for reference in alive)


async def main():
    return json.dumps(
        {
            "frames": await frames_come_back(),
            "order": await a_thousand_frames_keep_their_order(),
            "mb_per_s": await large_frames_and_back_pressure(),
            "early": await early_frames_are_kept(),
            "refused": await failure(URLS["refusing"]),
            "nothing listens": await failure(URLS["nobody"]),
            "silent": await failure(URLS["silent"], timeout_s=0.3),
            "left": await connections_leave_nothing(),
        }
    )


await main()  # noqa: F704 - the runner awaits the program
