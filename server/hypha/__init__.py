"""The hypha server: a switch for RPC frames, a registry of services, and their web gateway."""

from hypha_rpc._version import __version__

__all__ = ["__version__"]
