"""Import path of existing programs."""

from hypha_rpc.client.encryption import (
    HAS_CRYPTO,
    decrypt_payload,
    encrypt_payload,
    generate_encryption_keypair,
    public_key_from_hex,
    public_key_to_hex,
)

__all__ = [
    "HAS_CRYPTO",
    "decrypt_payload",
    "encrypt_payload",
    "generate_encryption_keypair",
    "public_key_from_hex",
    "public_key_to_hex",
]
