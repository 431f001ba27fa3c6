"""The command line: arguments to settings, and the command that prints a token."""

from hypha.cli.options import load_environment, parse
from hypha.cli.token import generate_token

__all__ = ["generate_token", "load_environment", "parse"]
