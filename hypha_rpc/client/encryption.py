"""Keys of end-to-end encryption and what users do with them (python-client §15).

Needs PyNaCl when something is encrypted, not before. How a payload is sealed is
known in `hypha_rpc.wire.sealing`.
"""

from __future__ import annotations

import importlib.util
import os
import re
from typing import Any, Final

from hypha_rpc.client.proxies import RemoteFunction
from hypha_rpc.wire.sealing import KEY_BYTES, NONCE_BYTES, Sealer, box, shared_secret, unbox

__all__ = [
    "HAS_CRYPTO",
    "decrypt_payload",
    "encrypt_payload",
    "generate_encryption_keypair",
    "make_sealer",
    "public_key_from_hex",
    "public_key_to_hex",
    "seal_service",
]

HAS_CRYPTO: Final = importlib.util.find_spec("nacl") is not None
"""Whether PyNaCl is installed."""

_HEX_KEY: Final = re.compile(r"[0-9a-fA-F]{64}")
_MISSING: Final = "Encryption needs the package PyNaCl: install hypha-rpc[encryption]"


def generate_encryption_keypair() -> tuple[bytes, bytes]:
    """Make a key pair.

    Returns:
        The private and the public key, 32 bytes each.

    Raises:
        ImportError: PyNaCl is not installed.
    """
    private = os.urandom(KEY_BYTES)
    return private, _public_of(private)


def encrypt_payload(my_private: bytes, their_public: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Encrypt *data* for the owner of *their_public*.

    Returns:
        The nonce (24 bytes) and the ciphertext.

    Raises:
        ValueError: a key that is none.
        ImportError: PyNaCl is not installed.
    """
    nonce = os.urandom(NONCE_BYTES)
    return nonce, box(data, nonce, _secret(my_private, their_public))


def decrypt_payload(my_private: bytes, their_public: bytes, nonce: bytes, ciphertext: bytes) -> bytes:
    """Decrypt what `encrypt_payload` of the owner of *their_public* returned.

    Raises:
        ValueError: another key was used, or something was changed.
        ImportError: PyNaCl is not installed.
    """
    return unbox(ciphertext, nonce, _secret(my_private, their_public))


def public_key_to_hex(key: bytes) -> str:
    """Write a public key as 64 hex digits."""
    return key.hex()


def public_key_from_hex(text: str) -> bytes:
    """Read a public key from 64 hex digits.

    Raises:
        ValueError: *text* is something else.
    """
    if not isinstance(text, str) or _HEX_KEY.fullmatch(text) is None:
        raise ValueError(f"A public key must be a 64-char hex string, got {text!r:.80}")
    return bytes.fromhex(text)


def make_sealer(private: bytes | None, public: bytes | None) -> Sealer:
    """The sealer of a connection.

    Args:
        private: private key; None for a fresh pair.
        public: its public key.

    Raises:
        ValueError: only one of the two is given, or they are no pair.
        ImportError: PyNaCl is not installed.
    """
    if (private is None) != (public is None):
        raise ValueError("encryption_private_key and encryption_public_key are given together, or not at all")
    if private is None or public is None:
        private, public = generate_encryption_keypair()
    for name, key in (("encryption_private_key", private), ("encryption_public_key", public)):
        if not isinstance(key, (bytes, bytearray)) or len(key) != KEY_BYTES:
            raise ValueError(f"{name} must be {KEY_BYTES} bytes")
    if _public_of(bytes(private)) != public:
        raise ValueError("encryption_public_key is not the public key of encryption_private_key")
    return Sealer(bytes(private), bytes(public), os.urandom)


def seal_service(node: Any, key: bytes) -> Any:
    """*node* (a service, or a member of one) with functions whose calls are encrypted for *key*."""
    if isinstance(node, RemoteFunction):
        return node.sealed_for(key)
    if isinstance(node, dict):
        for name, value in dict.items(node):
            if name != "config":
                dict.__setitem__(node, name, seal_service(value, key))
        return node
    if type(node) is list:
        return [seal_service(value, key) for value in node]
    return node


def _secret(private: bytes, public: bytes) -> bytes:
    try:
        return shared_secret(private, public)
    except ImportError as error:
        raise ImportError(_MISSING) from error


def _public_of(private: bytes) -> bytes:
    try:
        from nacl.bindings import crypto_scalarmult_base
    except ImportError as error:
        raise ImportError(_MISSING) from error
    return crypto_scalarmult_base(private)
