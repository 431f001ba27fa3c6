"""The signing secret and the name of this server, kept over restarts.

Decides where they come from: the environment, the state directory, or chance.
Specs: server §1.2, security S21, protocol §1.8.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypha.auth.words import readable_name
from hypha.settings import Settings, SettingsError

if TYPE_CHECKING:
    from hypha.store.state import StateDirectory

__all__ = ["Secrets", "load_secrets", "load_server_id"]

_logger = logging.getLogger("hypha.auth")

_SECRET_FILE, _SERVER_ID_FILE = "jwt-secret", "server-id"
_LEAST_BYTES, _GOOD_BYTES = 16, 32


@dataclass(frozen=True, slots=True)
class Secrets:
    """Keys of the tokens.

    Attributes:
        current: signs and verifies.
        previous: verifies only, so that a key can be changed without throwing
            everybody out; None when there is none.
    """

    current: bytes = field(repr=False)
    previous: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for key in (self.current, self.previous):
            if key is not None and len(key) < _LEAST_BYTES:
                raise SettingsError(f"The JWT secret must have at least {_LEAST_BYTES} bytes, it has {len(key)}")

    @classmethod
    def random(cls) -> Secrets:
        """A key that lives as long as the process."""
        return cls(secrets.token_bytes(_GOOD_BYTES))


def load_secrets(settings: Settings, state: StateDirectory | None) -> Secrets:
    """Find or make the signing secret.

    The environment wins; else it is made once and kept in *state*; without
    state it is random.

    Raises:
        SettingsError: a configured secret is shorter than 16 bytes.
        StateError: the kept secret is readable by others.
    """
    previous = settings.jwt_secret_previous
    current = settings.jwt_secret
    if current is None and state is not None:
        # 43 characters of text carry the 32 random bytes and can be moved into a variable as they are.
        current = state.read_or_create(_SECRET_FILE, lambda: secrets.token_urlsafe(_GOOD_BYTES))
    keys = Secrets(
        current.encode() if current is not None else secrets.token_bytes(_GOOD_BYTES),
        previous.encode() if previous is not None else None,
    )
    if len(keys.current) < _GOOD_BYTES:
        _logger.warning("The JWT secret has %d bytes; %d or more are recommended", len(keys.current), _GOOD_BYTES)
    return keys


def load_server_id(settings: Settings, state: StateDirectory | None) -> str:
    """Find or make the name of this server.

    Clients keep calling the manager under its old address after a restart
    (protocol §1.8), so the name must stay.

    Raises:
        StateError: it cannot be kept.
    """
    if settings.server_id:
        return settings.server_id
    return readable_name() if state is None else state.read_or_create(_SERVER_ID_FILE, readable_name)
