"""``python -m hypha [server] [options]`` and ``python -m hypha generate-token ...``.

Only tells the commands apart.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that *argv* names, by default the server.

    Returns:
        The exit code of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["generate-token"]:
        from hypha.cli.token import generate_token

        return generate_token(arguments[1:])
    # Imported here: printing a token needs no server.
    from hypha.server import main as serve

    return serve(arguments[1:] if arguments[:1] == ["server"] else arguments)


if __name__ == "__main__":
    from hypha.server import leave

    leave(main())
