"""A connected TCP socket to the host of a URL, directly or through the proxy of the environment.

Shared by the WebSocket engines, so that they find the same hosts, use the same
proxies and fail with the same words. Knows nothing of WebSocket or TLS.
"""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import logging
import socket
import urllib.parse
import urllib.request

from hypha_rpc.transports.base import OpenRefused, Unavailable
from hypha_rpc.transports.target import Target, basic_authorization

__all__ = ["dial", "dispose", "keep_queue_short", "proxy_for"]

_log = logging.getLogger("hypha_rpc.transport")

#: A host with several addresses: an unresponsive one costs no more than this.
ADDRESS_S = 3.0
MAX_PROXY_ANSWER = 16 * 1024
DISPOSE_TURNS = 20
#: Bytes that wait in the kernel to be read, from peers on this machine.
LOCAL_QUEUE = 256 * 1024
#: Bytes in the kernel that are not on their way yet.
UNSENT = 128 * 1024


def proxy_for(target: Target) -> str | None:
    """Return the URL of the proxy that the environment names for *target*, if any.

    ``HTTPS_PROXY`` serves ``wss``, ``HTTP_PROXY`` serves ``ws``, ``ALL_PROXY`` both;
    ``NO_PROXY`` is respected and loopback addresses are never proxied.
    """
    if _is_loopback(target.host) or urllib.request.proxy_bypass(target.authority):
        return None
    proxies = urllib.request.getproxies()
    for scheme in ("wss", "https", "all") if target.secure else ("ws", "http", "all"):
        proxy = proxies.get(scheme)
        if proxy:
            return proxy if "://" in proxy else f"http://{proxy}"
    return None


async def dial(target: Target) -> socket.socket:
    """Return a connected, non-blocking socket through which *target* is reached.

    The caller's time limit bounds it.

    Raises:
        OpenRefused: nothing listens there.
        Unavailable: unknown host, unreachable, or the proxy does not let us through.

    Ownership:
        The socket is the caller's; none is left on failure or cancellation.
    """
    proxy_url = proxy_for(target)
    if proxy_url is None:
        return await _connect(target.host, target.port)
    proxy = urllib.parse.urlsplit(proxy_url)
    if proxy.scheme.startswith("socks"):
        return await _connect_socks(proxy_url, target)
    if proxy.scheme != "http" or not proxy.hostname:
        raise Unavailable(f"Proxies of the kind {proxy.scheme!r} are not supported")
    sock = await _connect(proxy.hostname, proxy.port or 80)
    try:
        await _tunnel(sock, target, basic_authorization(proxy.username, proxy.password))
    except BaseException:
        sock.close()
        raise
    return sock


async def dispose(sock: socket.socket) -> None:
    """End what a failed or cancelled use of *sock* left of it.

    A connection object that a library holds on it closes itself at the end of the
    stream, and with it the socket, within a few turns of the loop. Closing a socket
    that an event loop still watches would be worse than waiting for that.
    """
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        _log.debug("The connection was gone already: %s", error)
    for _ in range(DISPOSE_TURNS):
        if sock.fileno() == -1:
            return
        await asyncio.sleep(0)
    sock.close()


# ---------------------------------------------------------------------- connecting


async def _connect(host: str, port: int) -> socket.socket:
    """Try the host's addresses one after the other; the last failure is the one reported."""
    loop = asyncio.get_running_loop()
    addresses = await _resolve(host, port)
    failure: OSError | None = None
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        limit = None if index == len(addresses) - 1 else ADDRESS_S
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            async with asyncio.timeout(limit):
                await loop.sock_connect(sock, address)
        except OSError as error:  # includes TimeoutError
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    where = Target("", False, host, port).authority
    if isinstance(failure, ConnectionRefusedError):
        raise OpenRefused(f"Nothing listens at {where}") from failure
    raise Unavailable(f"Cannot connect to {where}: {failure}") from failure


async def _resolve(host: str, port: int) -> list[tuple[int, int, int, str, tuple[object, ...]]]:
    """Return the addresses of *host*; a literal address needs no look-up, hence no thread."""
    loop = asyncio.get_running_loop()
    flags = socket.AI_NUMERICHOST if _is_address(host) else 0
    try:
        if flags:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)  # type: ignore[return-value]
        return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)  # type: ignore[return-value]
    except (socket.gaierror, UnicodeError) as error:
        raise Unavailable(f"Cannot find the host {host!r}: {error}") from error


async def _tunnel(sock: socket.socket, target: Target, authorization: str | None) -> None:
    """Ask an HTTP proxy for a tunnel to *target*."""
    loop = asyncio.get_running_loop()
    lines = [f"CONNECT {target.authority} HTTP/1.1", f"Host: {target.authority}"]
    if authorization is not None:
        lines.append(f"Proxy-Authorization: {authorization}")
    await loop.sock_sendall(sock, "\r\n".join([*lines, "", ""]).encode("ascii"))
    answer = b""
    while b"\r\n\r\n" not in answer:
        # Nothing of the tunnel can be read away: the server speaks only when spoken to.
        data = await loop.sock_recv(sock, 4096)
        answer += data
        if not data or len(answer) > MAX_PROXY_ANSWER:
            raise Unavailable("The proxy did not answer the request for a tunnel")
    status = answer.split(b"\r\n", 1)[0].split(b" ")
    if len(status) < 2 or not status[0].startswith(b"HTTP/") or not status[1].startswith(b"2"):
        said = status[1].decode("ascii", "replace")[:3] if len(status) > 1 else "?"
        raise Unavailable(f"The proxy refused a tunnel to {target.authority}: HTTP {said}")


async def _connect_socks(proxy_url: str, target: Target) -> socket.socket:
    """SOCKS proxies need `python_socks`, which comes with picows."""
    try:
        python_socks = importlib.import_module("python_socks.async_.asyncio")
    except ImportError as error:
        raise Unavailable("SOCKS proxies need the package python-socks") from error
    url = proxy_url.replace("socks5h://", "socks5://", 1).replace("socks4a://", "socks4://", 1)
    try:
        proxy = python_socks.Proxy.from_url(url, rdns=True)
        sock = await proxy.connect(dest_host=target.host, dest_port=target.port)
    except TimeoutError:
        raise
    except Exception as error:  # a border: that package has no base class of its own
        raise Unavailable(f"The SOCKS proxy does not reach {target.authority}: {error}") from error
    assert isinstance(sock, socket.socket)
    sock.setblocking(False)
    return sock


# ---------------------------------------------------------------------- small things


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def keep_queue_short(sock: socket.socket) -> None:
    """Let the kernel hold little that is not on its way yet: small frames meet a short queue beside big ones."""
    if sock.family in (socket.AF_INET, socket.AF_INET6) and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        if _is_loopback(str(sock.getpeername()[0])):
            # There is no distance to bridge: what lies in a longer queue is only older.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LOCAL_QUEUE)
