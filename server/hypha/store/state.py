"""The state directory: private files that have to survive a restart.

Creates and checks the directory and small files in it (the signing secret, the
server id). It does not know what the files are for. Specs: security S21,
protocol §1.8.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

__all__ = ["StateDirectory", "StateError"]

_DIRECTORY_MODE, _FILE_MODE = 0o700, 0o600
# Windows keeps rights in access lists, which the user's profile sets already.
_HAS_MODES = os.name != "nt"


class StateError(OSError):
    """The state directory cannot be used; the text says what to do."""


class StateDirectory:
    """A directory of mode 0700 whose files have mode 0600.

    Args:
        path: the directory; made when absent, with its parents.

    Raises:
        StateError: it cannot be made, is no directory, belongs to somebody
            else, or others may enter it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
            status = path.stat()
        except OSError as error:
            raise StateError(
                f"Cannot use the state directory {path}: {error.strerror or error}. "
                "Name another one with --state-dir, or keep nothing with --in-memory."
            ) from error
        _check(path, status, "700")

    def read(self, name: str) -> str | None:
        """The text of file *name* without surrounding white space; None when absent.

        Raises:
            StateError: others may read it, or it cannot be read.
        """
        path = self.path / name
        try:
            with path.open(encoding="utf-8") as file:
                # The open file is checked, not the path: between two looks at a path it can change.
                _check(path, os.fstat(file.fileno()), "600")
                return file.read().strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            if isinstance(error, StateError):
                raise
            raise StateError(f"Cannot read {path}: {error}") from error

    def read_or_create(self, name: str, make: Callable[[], str]) -> str:
        """The text of file *name*, made once by *make* when it is absent or empty.

        Several processes may start at once: one wins, all return the same text.

        Raises:
            StateError: others may read the file, or it cannot be written.
        """
        present = self.read(name)
        if present:
            return present
        text = make()
        if present == "":
            self._write(name, text, replace=True)
        elif not self._write(name, text, replace=False):
            # Another process was faster; what it wrote is complete, for the name appeared with it.
            text = self.read(name) or text
        return text

    def private_file(self, name: str) -> Path:
        """The path of file *name*, made empty when it is absent, which nobody else can read.

        Raises:
            StateError: others may read it, or it cannot be made.
        """
        path = self.path / name
        try:
            # One that exists is only looked at: it may lie on a disk that cannot be written.
            flags = os.O_RDONLY if path.exists() else os.O_RDWR | os.O_CREAT
            handle = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), _FILE_MODE)
            try:
                _check(path, os.fstat(handle), "600")
            finally:
                os.close(handle)
        except OSError as error:
            if isinstance(error, StateError):
                raise
            raise StateError(f"Cannot use {path}: {error.strerror or error}") from error
        return path

    def _write(self, name: str, text: str, *, replace: bool) -> bool:
        """Make the file appear under its name only when it is complete."""
        path = self.path / name
        try:
            handle, draft = tempfile.mkstemp(prefix=f".{name}-", dir=self.path)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(text + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                return _publish(draft, path, replace=replace)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(draft)
        except OSError as error:
            raise StateError(f"Cannot write {path}: {error.strerror or error}") from error


def _publish(draft: str, path: Path, *, replace: bool) -> bool:
    if replace:
        os.replace(draft, path)
        return True
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    return True


def _check(path: Path, status: os.stat_result, wanted: str) -> None:
    if wanted == "700" and not stat.S_ISDIR(status.st_mode):
        raise StateError(f"{path} is not a directory")
    if not _HAS_MODES:
        return
    if status.st_uid != os.geteuid():
        raise StateError(f"{path} belongs to another user (uid {status.st_uid}); name your own with --state-dir")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise StateError(f"{path} is open to others (mode {mode:04o}); it holds secrets: chmod {wanted} {path}")
