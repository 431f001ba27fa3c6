"""Functions as arguments: a callback lives as long as the call, `keep` makes it live on."""

import asyncio
import os

from hypha_rpc import connect_to_server, keep

SERVER_URL = os.environ.get("HYPHA_SERVER_URL", "http://127.0.0.1:9527")


class Thermometer:
    """A service with state: those who want to know are told."""

    def __init__(self):
        self.listeners = []

    async def measure(self, times, progress):
        """Call back while the call is under way."""
        for number in range(times):
            await progress(number + 1, times)
        return 21.5

    def subscribe(self, listener):
        """Keep a function beyond the call; the caller allowed it with `keep`."""
        self.listeners.append(listener)

    async def changed(self, value):
        for listener in self.listeners:
            await listener(value)


async def main():
    async with connect_to_server(server_url=SERVER_URL) as provider:
        thermometer = Thermometer()
        await provider.register_service(
            {"id": "thermometer", "measure": thermometer.measure, "subscribe": thermometer.subscribe}
        )
        token = await provider.generate_token()  # for others who shall see this workspace
        async with connect_to_server(server_url=SERVER_URL, token=token) as consumer:
            remote = await consumer.get_service("thermometer")
            print("result:", await remote.measure(2, lambda done, total: print(f"progress: {done}/{total}")))

            listener = keep(lambda value: print("changed to", value))
            await remote.subscribe(listener)
            await thermometer.changed(22.0)
            listener.dispose()  # and the thermometer's calls of it fail from now on


if __name__ == "__main__":
    asyncio.run(main())
