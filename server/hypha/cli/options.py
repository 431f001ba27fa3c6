"""The command line of the server: arguments to `Settings`.

Knows where ``.env`` is and what wins over what; the options themselves are
declared in `hypha.settings`. Nothing is started here. Spec: server §1.1.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from dotenv import find_dotenv, load_dotenv

from hypha.cli.plain import read_plain
from hypha.cli.refusal import refuse
from hypha.settings import LATER_OPTIONS, Settings, SettingsError, option_name

__all__ = ["load_environment", "parse"]


def parse(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the command line.

    Options given win over the environment. No option at all means ``--from-env``.

    Args:
        argv: arguments after the program's name; the process's own by default.
        environ: variables; by default the process's own, after ``.env`` was loaded.

    Returns:
        The settings. ``ignored_options`` names options that are accepted and
        do nothing, for the caller to log in one line.

    Raises:
        SystemExit: code 2 after a message for a bad option or value, 0 after
            ``--help`` and ``--version``.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if environ is None:
        environ = load_environment()
    given = read_plain(arguments)
    if given is None:
        # Help, or a mistake: only these need the parser that can explain, and it takes its time to load.
        from hypha.cli.syntax import explain

        given = explain(arguments)
    from_env = bool(given.pop("from_env", False)) or not arguments
    ignored = tuple(option_name(name) for name in LATER_OPTIONS if given.pop(name, None))
    lists = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    try:
        return Settings.from_env(environ, options=from_env, ignored_options=ignored, **lists)
    except SettingsError as error:
        refuse(str(error))


def load_environment() -> Mapping[str, str]:
    """Load ``.env`` of the working directory or a parent; variables already set win (server §1.2)."""
    load_dotenv(find_dotenv(usecwd=True), override=False)
    return os.environ
