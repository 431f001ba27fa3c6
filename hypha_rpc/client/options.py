"""Every option of a connection, once (python-client §3.2)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, fields
from typing import Any, Final

__all__ = ["ABSENT", "ConnectOptions", "from_environment"]

DEFAULT_PING_INTERVAL_S: Final = 5.0
DEFAULT_PING_TIMEOUT_S: Final = 8.0
DEFAULT_METHOD_TIMEOUT_S: Final = 30.0
DEFAULT_RINTF_TIMEOUT_S: Final = 10.0

#: From this likeness on an unknown option is taken for a misspelt one.
_LIKE: Final = 0.85

_ENVIRONMENT: Final = {
    "server_url": "HYPHA_SERVER_URL",
    "token": "HYPHA_TOKEN",
    "client_id": "HYPHA_CLIENT_ID",
    "workspace": "HYPHA_WORKSPACE",
}


class _Absent:
    """Marks an option that was not given, where None means something."""

    def __repr__(self) -> str:
        return "<absent>"


ABSENT: Final = _Absent()


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """What `connect_to_server` understands; names are those programs use.

    Times are in seconds. ``ping_interval`` None or at most 0 switches keep-alive off (X01).
    """

    # identity
    server_url: str
    token: str | None = field(default=None, repr=False)
    workspace: str | None = None
    client_id: str = ""
    name: str | None = None
    app_id: str = "*"
    description: str | None = None
    reconnection_token: str | None = field(default=None, repr=False)

    # timeouts
    method_timeout: float = DEFAULT_METHOD_TIMEOUT_S
    rintf_timeout: float = DEFAULT_RINTF_TIMEOUT_S
    ping_interval: float | None = DEFAULT_PING_INTERVAL_S
    ping_timeout: float | None = DEFAULT_PING_TIMEOUT_S
    token_refresh_interval: float = 7200.0

    # transport
    transport: str = "websocket"
    ssl: Any = None
    additional_headers: tuple[tuple[str, str], ...] = ()
    long_message_chunk_size: int = 262144

    # end-to-end encryption: a fresh key pair unless both keys are given
    encryption: bool = False
    encryption_private_key: bytes | None = field(default=None, repr=False)
    encryption_public_key: bytes | None = None

    # behaviour
    silent: bool = False
    writable_arrays: bool = False
    logger: Any = ABSENT
    loop: Any = None

    @classmethod
    def parse(cls, config: Mapping[str, Any] | None, options: Mapping[str, Any]) -> ConnectOptions:
        """Merge *options* over *config*; unknown keys are ignored, nothing given is changed (X04).

        With nothing given at all the environment is asked.

        Raises:
            TypeError: *config* is no dictionary.
            ValueError: no server URL, an empty client id, or a number that makes no sense.
        """
        if config is not None and not isinstance(config, Mapping):
            raise TypeError(f"the options are a dictionary or keywords (server_url=...), not {type(config).__name__}")
        given = {**(config or {}), **options}
        if not given:
            given = from_environment()
        known = {option.name for option in fields(cls)}
        _warn_of_misspelt(given.keys() - known, known)
        chosen = {key: value for key, value in given.items() if key in known}
        if not isinstance(chosen.get("server_url"), str) or not chosen["server_url"]:
            raise ValueError("server_url is required")
        chosen["client_id"] = _client_id(chosen)
        for key in ("method_timeout", "rintf_timeout", "token_refresh_interval", "long_message_chunk_size", "app_id"):
            if chosen.get(key, ABSENT) is None:
                del chosen[key]
        for key in ("method_timeout", "rintf_timeout"):
            _positive(key, chosen)
        chosen["additional_headers"] = _header_pairs(chosen.get("additional_headers"))
        return cls(**chosen)


def _warn_of_misspelt(unknown: Set[str], known: Set[str]) -> None:
    """What is unknown is ignored, as it always was; what looks like an option of ours is worth a word."""
    if not unknown:
        return
    import difflib  # costs more to load than all of this package's options together

    for key in sorted(unknown):
        meant = difflib.get_close_matches(key, known, n=1, cutoff=_LIKE)
        if meant:
            text = f"connect_to_server has no option {key!r}, it is ignored; did you mean {meant[0]!r}?"
            warnings.warn(text, UserWarning, stacklevel=4)


def _client_id(chosen: Mapping[str, Any]) -> str:
    if "client_id" not in chosen or chosen["client_id"] is None:
        import shortuuid  # only who has no id needs it

        return str(shortuuid.uuid())
    client_id = chosen["client_id"]
    if not isinstance(client_id, str) or not client_id:
        raise ValueError("client_id must be a non-empty string")
    if "/" in client_id:
        raise ValueError(f"client_id must not contain '/': {client_id!r}")
    return client_id


def _positive(key: str, chosen: Mapping[str, Any]) -> None:
    value = chosen.get(key, 1)
    if not isinstance(value, (int, float)) or not value > 0:
        raise ValueError(f"{key} must be a number of seconds above 0, not {value!r}")


def _header_pairs(headers: Any) -> tuple[tuple[str, str], ...]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    return tuple((str(name), str(value)) for name, value in pairs)


def from_environment() -> dict[str, Any]:
    """The options that the environment gives (python-client §3.1).

    Raises:
        ValueError: it names no server.
    """
    if not os.environ.get("HYPHA_SERVER_URL"):
        _load_dotenv()
    found = {key: os.environ[name] for key, name in _ENVIRONMENT.items() if os.environ.get(name)}
    if "server_url" not in found:
        raise ValueError(
            "No configuration given: pass server_url, or set HYPHA_SERVER_URL "
            "(and optionally HYPHA_TOKEN, HYPHA_CLIENT_ID, HYPHA_WORKSPACE)"
        )
    return found


def _load_dotenv() -> None:
    """Load a ``.env`` file found upwards from the working directory, if python-dotenv is installed."""
    try:
        from dotenv import find_dotenv, load_dotenv
    except ImportError:
        return
    load_dotenv(find_dotenv(usecwd=True))
