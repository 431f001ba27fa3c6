"""Sealed payloads: the second segment of a frame, readable by its receiver only (protocol §9, security S48).

::

    sealed segment 2 = {"_enc": {"v": 2, "pub": <sender's key>, "nonce": <24 bytes>}, "data": <box>}
    box              = crypto_box(msgpack map): args, promise, t, ... and _bind

`Sealer` holds one key pair, the secrets it shares with others, and the nonces it
has seen. It knows no endpoint and has no source of randomness of its own. PyNaCl
is imported when the first `Sealer` is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hypha_rpc.errors import RemoteProtocolError

__all__ = [
    "KEY_BYTES",
    "NONCE_BYTES",
    "NonceMemory",
    "Sealer",
    "SealingError",
    "binding",
    "box",
    "shared_secret",
    "unbox",
]

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 24
_VERSION: Final = 2
_MAX_SECRETS: Final = 1000
_NONCES_PER_KEY: Final = 10_000
_MAX_NONCES: Final = 200_000


class SealingError(RemoteProtocolError, ValueError):
    """A sealed payload that cannot be opened, or must not be used. The text never contains its bytes."""


def binding(sender: str, to: str, method: str, session: str | None) -> str:
    """What a payload is bound to: moved into another frame it is refused (security S48)."""
    return f"{sender}|{to}|{method}|{session or ''}"


def shared_secret(private: bytes, public: bytes) -> bytes:
    """The secret that the owner of *private* shares with the owner of *public*.

    Raises:
        SealingError: a key that is none, or one that gives the same secret to everybody.
        ImportError: PyNaCl is not installed.
    """
    from nacl.bindings import crypto_box_beforenm

    if len(public) != KEY_BYTES or len(private) != KEY_BYTES:
        raise SealingError(f"an encryption key has {KEY_BYTES} bytes")
    try:
        return crypto_box_beforenm(public, private)
    except (RuntimeError, ValueError, TypeError) as error:
        raise SealingError("a public key that keeps no secret is refused") from error


def box(data: bytes, nonce: bytes, secret: bytes) -> bytes:
    """Encrypt and authenticate *data*: 16 bytes of tag and as many bytes as it has."""
    from nacl.bindings import crypto_box_afternm

    return crypto_box_afternm(data, nonce, secret)


def unbox(data: bytes, nonce: bytes, secret: bytes) -> bytes:
    """What `box` was given.

    Raises:
        SealingError: it was made for somebody else, or changed on the way.
    """
    from nacl.bindings import crypto_box_open_afternm
    from nacl.exceptions import CryptoError

    if len(nonce) != NONCE_BYTES:
        raise SealingError(f"a nonce has {NONCE_BYTES} bytes")
    try:
        return crypto_box_open_afternm(data, nonce, secret)
    except (CryptoError, ValueError, TypeError) as error:
        raise SealingError("invalid key or tampered data") from error


class NonceMemory:
    """The latest nonces of each key, within bounds: what comes a second time is a replay.

    Of one key the last 10 000 are known. When all keys together have too many, the
    key that has been quiet for longest is forgotten.
    """

    def __init__(self, per_key: int = _NONCES_PER_KEY, in_all: int = _MAX_NONCES) -> None:
        self._per_key = per_key
        self._in_all = in_all
        self._seen: dict[bytes, dict[bytes, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def is_new(self, key: bytes, nonce: bytes) -> bool:
        """Remember *nonce* of *key*; False when it was known."""
        # Dictionaries keep the order of insertion: the first is the oldest.
        nonces = self._seen.pop(key, None)
        if nonces is None:
            nonces = {}
        self._seen[key] = nonces
        if nonce in nonces:
            return False
        nonces[nonce] = None
        self._count += 1
        if len(nonces) > self._per_key:
            del nonces[next(iter(nonces))]
            self._count -= 1
        while self._count > self._in_all and len(self._seen) > 1:
            self._count -= len(self._seen.pop(next(iter(self._seen))))
        return True


class Sealer:
    """Seals and opens the payloads of one client.

    Args:
        private: own private key.
        public: own public key, told to peers.
        nonces: gives that many random bytes.

    Raises:
        ImportError: PyNaCl is not installed.
    """

    def __init__(self, private: bytes, public: bytes, nonces: Callable[[int], bytes]) -> None:
        self.public_key = public
        self._private = private
        self._nonces = nonces
        self._secrets: dict[bytes, bytes] = {}
        self._known = NonceMemory()
        self._secret(public)

    def seal(self, payload: bytes, key: bytes) -> dict[str, Any]:
        """Segment 2 of a frame that only the owner of public key *key* can read.

        Raises:
            SealingError: *key* is none.
        """
        nonce = self._nonces(NONCE_BYTES)
        sealed = box(payload, nonce, self._secret(key))
        return {"_enc": {"v": _VERSION, "pub": self.public_key, "nonce": nonce}, "data": sealed}

    def open(self, extra: dict[str, Any]) -> tuple[bytes, bytes]:
        """Open what `seal` of a peer returned.

        Returns:
            The payload, and the public key of who sealed it.

        Raises:
            SealingError: it is malformed, for somebody else, changed, or came a second time.
        """
        envelope, data = extra.get("_enc"), extra.get("data")
        if isinstance(data, (bytearray, memoryview)):
            data = bytes(data)
        if not isinstance(envelope, dict) or not isinstance(data, bytes) or envelope.get("v") != _VERSION:
            raise SealingError("unknown form of encryption")
        key, nonce = envelope.get("pub"), envelope.get("nonce")
        if not isinstance(key, bytes) or not isinstance(nonce, bytes):
            raise SealingError("an encrypted payload names its key and its nonce")
        payload = unbox(data, nonce, self._secret(key))
        if not self._known.is_new(key, nonce):
            raise SealingError("this encrypted message has come before")
        return payload, key

    def _secret(self, key: bytes) -> bytes:
        secret = self._secrets.get(key)
        if secret is None:
            secret = shared_secret(self._private, key)
            if len(self._secrets) >= _MAX_SECRETS:
                del self._secrets[next(iter(self._secrets))]
            self._secrets[key] = secret
        return secret
