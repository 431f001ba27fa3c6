"""Log in through a browser, and use the token; without arguments the URL is printed."""

import asyncio
import os

from hypha_rpc import connect_to_server, login

SERVER_URL = os.environ.get("HYPHA_SERVER_URL", "http://127.0.0.1:9527")


async def main():
    # With "login_callback": a function of your own that shows context["login_url"], as a QR code for instance.
    token = await login({"server_url": SERVER_URL, "login_timeout": 300})
    async with connect_to_server(server_url=SERVER_URL, token=token) as server:
        print("logged in as", server.config.user["email"], "in", server.config.workspace)


if __name__ == "__main__":
    asyncio.run(main())
