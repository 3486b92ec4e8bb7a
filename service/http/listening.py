"""Opening the port, with an answer for each way in which that fails."""

import errno
import ipaddress
import socket

from service.platform.settings import Settings

_BACKLOG = 2048


def listen(host: str, port: int, settings: Settings) -> socket.socket:
    """Bind and listen.

    Args:
        host: A name or an address.
        port: 0 for any free one.
        settings: Decide whether an address beyond loopback is allowed.

    Raises:
        ValueError: The port is taken, the host is unknown, or the address is not allowed.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror:
        raise ValueError(f"--host {host} is no name or address of this machine.") from None
    if not (ipaddress.ip_address(address[0]).is_loopback or settings.allow_unauthenticated):
        raise ValueError(
            f"--host {host} is reachable from other machines, and this version asks nobody for a "
            "key. Listen on 127.0.0.1, or set PHISCOPE_ALLOW_UNAUTHENTICATED=1 if something in "
            "front of it lets only your people in."
        )
    listening = socket.socket(family, kind)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise ValueError(_explain(error, host, port)) from None
    return listening


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} of {host} is taken by another program. "
            "Choose another with --port, or --port 0 for any free one."
        )
    if error.errno == errno.EACCES:
        return f"Port {port} needs privileges. Choose one above 1023 with --port."
    return f"Cannot listen on {host}, port {port}: {error.strerror}."


def describe(listening: socket.socket) -> str:
    """Return the URL that a listening socket is reached at."""
    host, port = listening.getsockname()[:2]
    if ":" in host:
        host = f"[{host}]"
    return f"http://{host}:{port}"
