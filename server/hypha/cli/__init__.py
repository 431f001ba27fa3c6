"""The command line: arguments to settings. `hypha.cli.token` is the command that prints a token."""

from hypha.cli.options import load_environment, parse

__all__ = ["load_environment", "parse"]
