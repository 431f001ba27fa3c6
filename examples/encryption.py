"""A service that one client may call, and the server cannot listen to. Needs ``hypha-rpc[encryption]``."""

import asyncio
import os

from hypha_rpc import connect_to_server

SERVER_URL = os.environ.get("HYPHA_SERVER_URL", "http://127.0.0.1:9527")


async def main():
    # Each has a key pair; how they learn of each other's public key is their business, not the server's.
    async with (
        connect_to_server(server_url=SERVER_URL, encryption=True) as alice,
        connect_to_server(server_url=SERVER_URL, encryption=True) as bob,
        connect_to_server(server_url=SERVER_URL, encryption=True) as eve,
    ):
        service = await alice.register_service(
            {
                "id": "letters",
                "config": {"visibility": "public", "trusted_keys": [bob.rpc.get_public_key()]},
                "read": lambda: "see you at noon",
            }
        )
        key = alice.rpc.get_public_key()
        letters = await bob.get_service(service["id"], encryption_public_key=key)
        print("bob reads:", await letters.read())

        stolen = await eve.get_service(service["id"], encryption_public_key=key)
        try:
            await stolen.read()
        except PermissionError:
            print("eve is refused")


if __name__ == "__main__":
    asyncio.run(main())
