"""A program of its own that offers a service, for `hypha.utils.launch_external_services` to start.

``python examples/external_service.py --server-url=URL --service-id=ID --workspace=WORKSPACE --token=TOKEN``
"""

import argparse
import asyncio

from hypha_rpc import connect_to_server


async def main() -> None:
    """Register the service and serve until the server is gone for good."""
    parser = argparse.ArgumentParser(description="Offer a service.")
    for option in ("--server-url", "--service-id", "--workspace", "--token"):
        parser.add_argument(option, required=True)
    given = parser.parse_args()
    async with connect_to_server(server_url=given.server_url, workspace=given.workspace, token=given.token) as server:
        service = {
            "id": given.service_id,
            "config": {"visibility": "public"},
            "external": "42",
            "hello": lambda name: "Hello " + name,
        }
        registered = await server.register_service(service)
        print(f"registered {registered['id']}", flush=True)
        await server.serve()


if __name__ == "__main__":
    asyncio.run(main())
