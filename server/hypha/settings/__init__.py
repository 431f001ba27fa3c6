"""Every setting of the server, once: options, environment, limits.

Knows names, types, defaults and the rules a single value has to obey; neither
the command line's syntax nor what a setting is used for.
"""

from hypha.settings.environment import SettingsError
from hypha.settings.limits import Limits
from hypha.settings.mounts import StaticMount
from hypha.settings.options import (
    LATER_OPTIONS,
    OptionInfo,
    Settings,
    check_root_token,
    default_state_dir,
    option_info,
    option_name,
)

__all__ = [
    "LATER_OPTIONS",
    "Limits",
    "OptionInfo",
    "Settings",
    "SettingsError",
    "StaticMount",
    "check_root_token",
    "default_state_dir",
    "option_info",
    "option_name",
]
