import socket

import pytest

from service.local import LocalStackError, listen


def test_listens_on_a_free_port() -> None:
    with listen("127.0.0.1", 0) as listener:
        address = listener.getsockname()
        with socket.create_connection(address, timeout=5):
            pass


def test_taken_port() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(LocalStackError, match=rf"Port {port} on 127\.0\.0\.1 is taken"):
            listen("127.0.0.1", port)


def test_address_of_another_machine() -> None:
    with pytest.raises(LocalStackError, match=r"Cannot listen on 192\.0\.2\.1, port 8000"):
        listen("192.0.2.1", 8000)


def test_name_that_is_no_address() -> None:
    with pytest.raises(LocalStackError, match="Cannot listen on no such host, port 8000"):
        listen("no such host", 8000)
