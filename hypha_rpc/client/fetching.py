"""Options of fetching a service that its caller's side fulfils: encryption, and the shape it is asked for.

Knows nothing of how a service is found.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypha_rpc.client.proxies import RemoteService

if TYPE_CHECKING:
    from hypha_rpc.client.rpc import RPC

__all__ = ["Wanted", "missing_members", "split_options"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a service is to be like.

    Attributes:
        key: public key its calls are encrypted for, or None.
        protocol: class whose members it must have, or None.
    """

    key: bytes | None = None
    protocol: type[Any] | None = None

    def shape(self, rpc: RPC, service: RemoteService) -> RemoteService:
        """Make *service*, just fetched, what is wanted.

        Raises:
            TypeError: it lacks members of the protocol.
        """
        if self.protocol is not None and (missing := missing_members(service, self.protocol)):
            name = dict.get(service, "id", "the service")
            raise TypeError(f"{name} is no {self.protocol.__name__}: it lacks {', '.join(missing)}")
        if self.key is None:
            return service
        if rpc.endpoint.core.sealer is None:
            rpc.log.warning("encryption_public_key has no effect: this client was connected without encryption=True")
            return service
        from hypha_rpc.client.encryption import seal_service

        seal_service(service, self.key)
        return service


_NOTHING = Wanted()


def split_options(options: dict[str, Any], protocol: type[Any] | None = None) -> tuple[Wanted, dict[str, Any]]:
    """Separate what this side fulfils from what the server is asked.

    Raises:
        ValueError: the public key is no key.
    """
    text = options.pop("encryption_public_key", None)
    if text is None and protocol is None:
        return _NOTHING, options
    if text is None:
        return Wanted(None, protocol), options
    from hypha_rpc.client.encryption import public_key_from_hex

    return Wanted(public_key_from_hex(text), protocol), options


def missing_members(service: dict[str, Any], protocol: type[Any]) -> list[str]:
    """The public members of *protocol* that *service* has not, or that are no functions there; in order."""
    names: dict[str, bool] = {}
    for base in reversed(protocol.__mro__[:-1]):
        if base.__module__ == "typing":
            continue
        names.update((name, False) for name in inspect.get_annotations(base))
        names.update((name, callable(member)) for name, member in vars(base).items())
    wanted = {name: function for name, function in names.items() if not name.startswith("_")}
    return [
        name
        for name, function in wanted.items()
        if not dict.__contains__(service, name) or (function and not callable(dict.__getitem__(service, name)))
    ]
