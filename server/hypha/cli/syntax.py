"""The full syntax of the command line: help, suggestions, the reason of a refusal.

Builds the parser from the declarations in `hypha.settings`. `hypha.cli.plain`
reads the command lines that need none of it.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Sequence
from typing import Annotated, Any

import cyclopts
from cyclopts import Group, Parameter

from hypha.cli.refusal import refuse
from hypha.settings import LATER_OPTIONS, Settings, option_info, option_name
from hypha_rpc._version import __version__

__all__ = ["explain", "run_app"]

_HELP = """Meeting point of Hypha clients: connects them, and knows what services they offer.

For example
  python -m hypha.server --host=0.0.0.0 --port=9527
  python -m hypha.server --static-mounts /tools:./webtools/ /images:./images/
  python -m hypha.server --startup-functions=./one.py:hypha_startup ./two.py:hypha_startup

Without any option the server reads HYPHA_<OPTION> from the environment, as with --from-env.
A file .env in this directory or a parent is read, too. To print a token: python -m hypha generate-token --help
"""

_USAGE = "Usage: python -m hypha.server [OPTIONS]"
_ENV_GROUP = "State and scaling"
_FROM_ENV_HELP = "Read every option from HYPHA_<OPTION>, too."


def explain(arguments: Sequence[str]) -> dict[str, Any]:
    """Parse the server's *arguments*; what was given, by name.

    Raises:
        SystemExit: code 2 after a message for a bad option or value, 0 after
            ``--help`` and ``--version``.
    """
    return run_app(_app(), arguments)


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


def _app() -> cyclopts.App:
    app = cyclopts.App(
        name="hypha-server",
        help=_HELP,
        help_epilogue=_epilogue(),
        usage=_USAGE,
        version=f"hypha {__version__}",
        help_format="plaintext",
    )
    app.default(_command())
    return app


def _epilogue() -> str:
    """What no option says: the variables, and the options that other servers have."""
    lines = ["Set by the environment only"]
    for field in dataclasses.fields(Settings):
        info = option_info(field)
        if info.env and not info.group:
            lines.append(f"  {info.env[0]:30} {info.help}")
    lines.append(f"  {'HYPHA_<LIMIT>':30} Limits, e.g. HYPHA_MAX_CONNECTIONS_PER_USER, HYPHA_HTTP_RATE_LIMIT.")
    ignored = " ".join(map(option_name, LATER_OPTIONS))
    return "\n".join([*lines, "", f"Accepted and ignored: {ignored}"])


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
