"""Arrays travel as they are; big ones in pieces, with their progress told. Needs numpy."""

import asyncio
import os

import numpy as np

from hypha_rpc import connect_to_server

SERVER_URL = os.environ.get("HYPHA_SERVER_URL", "http://127.0.0.1:9527")


def smooth(image: np.ndarray) -> np.ndarray:
    """The mean of each pixel and its right neighbour."""
    return (image[:, :-1] + image[:, 1:]) / 2


def tiles(image: np.ndarray, size: int):
    """The image in strips, one at a time."""
    for start in range(0, len(image), size):
        yield image[start : start + size]


async def main():
    async with connect_to_server(server_url=SERVER_URL) as provider:
        await provider.register_service({"id": "images", "smooth": smooth, "tiles": tiles})
        token = await provider.generate_token()
        async with connect_to_server(server_url=SERVER_URL, token=token) as consumer:
            images = await consumer.get_service("images")
            image = np.random.default_rng(0).random((1000, 1001))  # 8 MB
            moved = []
            smoothed = await images.smooth.options(progress=lambda done, total: moved.append(done / total))(image)
            print("smoothed:", smoothed.shape, smoothed.dtype, "progress told to the end:", moved[-1] == 1)
            print("strips:", [strip.shape async for strip in await images.tiles(image, 400)])


if __name__ == "__main__":
    asyncio.run(main())
