"""The serving side on the blocking face.

Run as ``python -m agents.blocking_provider SERVER_URL JOURNAL``.
"""

from __future__ import annotations

import sys
import time

from programs.report import tell

from hypha_rpc.sync import connect_to_server


def slow(token: str, seconds: float) -> str:
    """Keep a thread busy for a while."""
    time.sleep(seconds)
    return token


def main(url: str) -> None:
    """Connect, register, stay."""
    server = connect_to_server({"server_url": url})
    info = server.register_service({"id": "fault", "config": {"visibility": "public"}, "slow": slow})
    token = server.generate_token({"expires_in": 3600})
    tell("ready", id=str(info["id"]), token=token, workspace=server.config.workspace)
    sys.stdin.readline()


if __name__ == "__main__":
    main(sys.argv[1])
