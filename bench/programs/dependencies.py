"""Imports the libraries that the server declares as its dependencies, and nothing of the server.

What it costs at least to start a server on them: measured beside the start of ours.
"""

from __future__ import annotations

import importlib

# What pyproject.toml and server/pyproject.toml name, each by what a server uses of it.
LIBRARIES = (
    *("msgpack", "shortuuid", "picows", "websockets.asyncio.client", "websockets.asyncio.server"),
    *("starlette.applications", "starlette.routing", "starlette.responses", "starlette.staticfiles"),
    *("uvicorn", "uvloop", "httptools", "cyclopts", "joserfc.jwt", "dotenv", "argon2", "prometheus_client"),
)
for name in LIBRARIES:
    importlib.import_module(name)

if __name__ == "__main__":
    with open("/proc/self/status", encoding="ascii") as status:
        kilobytes = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
    from lines import tell

    tell("result", megabytes=kilobytes / 1e3)
