"""A service that says hello: start the server with ``--startup-functions examples/hello_world.py:hypha_startup``."""


async def hypha_startup(server):
    """Register the service ``hello-world`` in the workspace ``public``."""

    def hello(name: str = "world") -> str:
        """Say hello.

        Args:
            name: whom to greet.
        """
        return "Hello " + name

    await server.register_service(
        {
            "name": "Hello World",
            "id": "hello-world",
            "config": {"visibility": "public"},
            "hello": hello,
        }
    )
