"""One value of ``--static-mounts``: text to mount point and directory (server §1.7).

Looks at the disk, serves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hypha.settings.environment import SettingsError

__all__ = ["StaticMount"]


@dataclass(frozen=True, slots=True)
class StaticMount:
    """A directory below a top-level route.

    Attributes:
        path: the route, ``/tools``.
        directory: what is served there, absolute.
    """

    path: str
    directory: Path

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``/mount:directory``; the directory need not exist.

        Raises:
            SettingsError: it has another form, or names more than one path segment.
        """
        path, directory = _split(text)
        path = f"/{path.strip('/')}"
        if not text.startswith("/") or not directory or path == "/":
            raise SettingsError(f"--static-mounts needs '/mount:directory', not {text!r}")
        if "/" in path[1:]:
            raise SettingsError(f"--static-mounts {text}: Only top-level routes are supported.")
        return cls(path, Path(directory).expanduser().absolute())

    def check(self) -> None:
        """Make sure that there is something to serve.

        Raises:
            SettingsError: the directory does not exist.
        """
        if not self.directory.is_dir():
            raise SettingsError(f"--static-mounts {self.path}: the directory {self.directory} does not exist")


def _split(text: str) -> tuple[str, str]:
    """At the last colon when what follows exists, else at the first: a drive letter has one, too."""
    path, _, directory = text.rpartition(":")
    if path and Path(directory).expanduser().exists():
        return path, directory
    path, _, directory = text.partition(":")
    return path, directory
