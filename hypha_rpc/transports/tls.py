"""TLS contexts for the option ``ssl`` (python-client §3.2); shared by all socket transports."""

from __future__ import annotations

import logging
import ssl
from typing import Any

__all__ = ["TlsContexts", "tls_failure"]

_log = logging.getLogger("hypha_rpc.transport")


class TlsContexts:
    """Makes the context of one connector once: it costs milliseconds."""

    def __init__(self) -> None:
        self._made: ssl.SSLContext | None = None
        self._warned = False

    def get(self, option: Any) -> ssl.SSLContext:
        """Return the context for *option*: None or True checks, False does not and warns, a context is itself."""
        if isinstance(option, ssl.SSLContext):
            return option
        if self._made is None:
            self._made = ssl.create_default_context()
            if option is False:
                self._made.check_hostname = False
                self._made.verify_mode = ssl.CERT_NONE
        if option is False and not self._warned:
            self._warned = True
            _log.warning("Certificates are not checked (ssl=False): anybody on the way can read and change everything")
        return self._made


def tls_failure(where: str, error: ssl.SSLError) -> str:
    """What to say when no secure connection to *where* comes about; of the usual reason *error* tells little."""
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return f"No secure connection to {where}: what listens there does not speak TLS; is it http:// instead of https://?"
    return f"No secure connection to {where}: {error}"
