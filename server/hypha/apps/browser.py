"""Is there a browser for server apps: looks, and starts nothing (server-apps §7)."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["caution", "find_browser"]

_ON_PATH: Final = ("chromium", "chromium-browser", "google-chrome")
_NO_BROWSER: Final = (
    'Server apps: no browser found. Run "playwright install chromium", install Chromium, '
    "or set --browser-executable; no restart needed."
)
_NO_DRIVER: Final = 'Server apps: no driver found. Run pip install "hypha[server-apps]"; no restart needed.'
_NOT_HERE: Final = "Server apps: --enable-server-apps is accepted, but this version does not run apps yet."


def find_browser(executable: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """Find a browser: the one that is named, else the driver's own, else one on the path.

    Args:
        executable: what the operator named, a file or a command.
        environ: variables.

    Returns:
        What there is; None when there is none.
    """
    if executable is not None:
        return shutil.which(executable, path=environ.get("PATH"))
    builds = sorted(_downloads(environ).glob("chromium-*/INSTALLATION_COMPLETE"))
    if builds:
        return str(builds[-1].parent)
    found = (shutil.which(name, path=environ.get("PATH")) for name in _ON_PATH)
    return next((path for path in found if path), None)


def _downloads(environ: Mapping[str, str]) -> Path:
    """Where ``playwright install`` puts its builds on this platform."""
    named = environ.get("PLAYWRIGHT_BROWSERS_PATH")
    if named and named != "0":
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ms-playwright"
    if os.name == "nt":
        return Path(environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "ms-playwright"
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ms-playwright"


def caution(executable: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """What an operator who enabled server apps has to know: what is missing, and what to run."""
    if importlib.util.find_spec("playwright") is None:
        return _NO_DRIVER
    return _NO_BROWSER if find_browser(executable, environ) is None else _NOT_HERE
