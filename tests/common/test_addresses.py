"""Addresses to listen on."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from rapport.common.addresses import listen, local_addresses

IPV6 = "::1"
needs_ipv6 = pytest.mark.skipif(
    IPV6 not in local_addresses("localhost"), reason="this machine has no IPv6"
)


def reaches(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


@needs_ipv6
@pytest.mark.parametrize(
    ("host", "families"),
    [
        ("localhost", (True, True)),
        ("::", (True, True)),
        ("0.0.0.0", (True, False)),  # noqa: S104 - the test is of it
        ("127.0.0.1", (True, False)),
        ("::1", (False, True)),
    ],
)
def test_families(host: str, families: tuple[bool, bool]) -> None:
    """A name and `::` are served in both families on the same port, an address in its own."""
    with ExitStack() as closing:
        sockets = [closing.enter_context(each) for each in listen(host, 0)]
        port = sockets[0].getsockname()[1]
        assert (reaches("127.0.0.1", port), reaches(IPV6, port)) == families


@needs_ipv6
@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, IPV6)]
)
def test_taken(family: socket.AddressFamily, address: str) -> None:
    """Where one address of a name is taken, none is served: some callers would reach another."""
    with socket.create_server((address, 0), family=family) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            listen("localhost", port)


def test_addresses_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a name's addresses those count that the machine has; without any it is an error."""
    here, elsewhere = "127.0.0.1", "192.0.2.1"  # the latter is for documentation
    ends = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0)) for each in (elsewhere, here)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: ends)
    assert local_addresses("name.example") == [here]
    ends.pop()
    with pytest.raises(OSError, match="assign requested address"):
        local_addresses("name.example")
