"""The one TCP port of a local Phiscope: the API's."""

import errno
import socket

from service.local.errors import LocalStackError


def listen(host: str, port: int) -> socket.socket:
    """Take the API's port before anything else is started.

    Passing the socket on to the API process, rather than its number, leaves no moment in which
    another program could take the port, and keeps connections waiting while the API restarts.

    Args:
        host: Name or address to listen on.
        port: Port number; 0 takes any free one.

    Returns:
        A bound, listening socket.

    Raises:
        LocalStackError: The port is taken, or the address is not this machine's.
    """
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise LocalStackError(_explain(host, port, error)) from error


def _explain(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is taken by another program. "
            "Stop that program, or choose another port with --port."
        )
    if error.errno == errno.EACCES:
        return f"Port {port} needs root. Choose a port above 1023 with --port."
    return (
        f"Cannot listen on {host}, port {port}: {error.strerror}. "
        "--host takes a name or an address of this machine, such as 127.0.0.1 or 0.0.0.0."
    )
