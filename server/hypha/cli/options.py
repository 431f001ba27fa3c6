"""The command line of the server: arguments to `Settings`.

Knows the syntax of arguments and where ``.env`` is; the options themselves are
declared in `hypha.settings`. Nothing is started here. Spec: server §1.1.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import sys
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NoReturn

import cyclopts
from cyclopts import Group, Parameter
from dotenv import find_dotenv, load_dotenv

from hypha.settings import LATER_OPTIONS, Settings, SettingsError, option_info, option_name
from hypha_rpc._version import __version__

__all__ = ["load_environment", "parse", "refuse", "run_app"]

_HELP = """Meeting point of Hypha clients: connects them, and knows what services they offer.

Without any option the server reads HYPHA_<OPTION> from the environment, as with --from-env.
Limits, the signing secret (HYPHA_JWT_SECRET) and logging (HYPHA_LOGLEVEL) are set by the environment only.
To print a token: python -m hypha generate-token --help
"""

_USAGE = "Usage: python -m hypha.server [OPTIONS]"
_ENV_GROUP = "State and scaling"
_FROM_ENV_HELP = "Read every option from HYPHA_<OPTION>, too."
_EXIT_USAGE = 2


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
    given = run_app(_app(), arguments)
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


def run_app(app: cyclopts.App, arguments: Sequence[str]) -> dict[str, Any]:
    """Parse *arguments* with *app* and return what was given, by parameter name.

    Raises:
        SystemExit: as `parse`.
    """
    try:
        command, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
    except cyclopts.UnusedCliTokensError as error:
        refuse(f"Unexpected argument: {' '.join(error.unused_tokens or ())}")
    except cyclopts.CycloptsError as error:
        refuse(str(error))
    if command is not app.default_command:
        # --help or --version.
        command(*bound.args, **bound.kwargs)
        raise SystemExit(0)
    return dict(bound.arguments)


def refuse(message: str) -> NoReturn:
    """Say on standard error what is wrong with the command line, and leave with code 2."""
    sys.stderr.write(f"error: {message}\nTry --help for the options.\n")
    raise SystemExit(_EXIT_USAGE)


def _app() -> cyclopts.App:
    app = cyclopts.App(
        name="hypha-server",
        help=_HELP,
        help_epilogue=f"Accepted and ignored: {' '.join(map(option_name, LATER_OPTIONS))}",
        usage=_USAGE,
        version=f"hypha {__version__}",
        help_format="plaintext",
    )
    app.default(_command())
    return app


def _command() -> typing.Callable[..., None]:
    """A function whose parameters are the options, for the parser to read them from."""
    parameters = _declared() + _later()

    def server(**options: Any) -> None:
        """Stand for the server; it is never called."""

    server.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    server.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return server


def _declared() -> list[inspect.Parameter]:
    hints = typing.get_type_hints(Settings)
    groups: dict[str, Group] = {}
    parameters: list[inspect.Parameter] = []
    for field in dataclasses.fields(Settings):
        info = option_info(field)
        if info.group:
            # Headings stand in the order of the fields.
            group = groups.setdefault(info.group, Group(info.group, sort_key=len(groups)))
            parameters.append(_parameter(field.name, hints[field.name], field.default, group, info.help))
    parameters.append(_parameter("from_env", bool, False, groups[_ENV_GROUP], _FROM_ENV_HELP))
    return parameters


def _later() -> list[inspect.Parameter]:
    defaults: dict[Any, object] = {bool: False, str: None}
    hidden = Group("Ignored", show=False)
    return [_parameter(name, kind, defaults.get(kind, ()), hidden, "") for name, kind in LATER_OPTIONS.items()]


def _shown(default: object) -> str:
    return " ".join(default) if isinstance(default, list) else str(default)


def _parameter(name: str, hint: Any, default: object, group: Group, help_text: str) -> inspect.Parameter:
    many = hint == tuple[str, ...]
    if many:
        hint, default = list[str], list(typing.cast("tuple[str, ...]", default))
    elif default is None:
        hint |= None
    parameter = Parameter(
        help=help_text,
        group=group,
        # No --no-...: the ecosystem's spelling of every option is the only one.
        negative="",
        consume_multiple=many,
        show_default=_shown if default not in (None, False, []) else False,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, parameter]
    )
