"""Call the functions of another program: ``python examples/client.py ID``, with the id that ``worker.py`` prints."""

import asyncio
import os
import sys

from hypha_rpc import connect_to_server

SERVER_URL = os.environ.get("HYPHA_SERVER_URL", "http://127.0.0.1:9527")


async def main(service_id):
    async with connect_to_server(server_url=SERVER_URL) as server:
        calculator = await server.get_service(service_id)
        print("1 + 2 =", await calculator.add(1, 2))
        print("counting:", [number async for number in await calculator.count(3)])

        # Calls are sent at once: ten of them take about as long as one.
        print("many:", await asyncio.gather(*(calculator.add(n, n) for n in range(10))))

        # An error of the function is raised here, as what it was there.
        try:
            await calculator.add(1, "two")
        except TypeError as error:
            print("refused:", error.remote_message)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/client.py SERVICE_ID")
    asyncio.run(main(sys.argv[1]))
