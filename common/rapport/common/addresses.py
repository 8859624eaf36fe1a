"""Addresses to listen on, and addresses as text."""

from __future__ import annotations

import errno
import os
import socket

# What RFC 6761 says of the name, whatever the machine's files say.
LOCALHOST = ("127.0.0.1", "::1")


def bracketed(host: str) -> str:
    """The host as it stands before a port: an IPv6 address has brackets around it."""
    return f"[{host}]" if ":" in host else host


def local_addresses(host: str) -> list[str]:
    """The addresses of a host that this machine has, of both families.

    Raises:
        OSError: it has none of them.
    """
    found: dict[str, socket.AddressFamily] = {}
    for name in LOCALHOST if host == "localhost" else (host,):
        for family, _, _, _, address in socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM):
            found[str(address[0])] = family
    addresses = [address for address, family in found.items() if _is_here(address, family)]
    if not addresses:
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    return addresses


def listen(host: str, port: int) -> list[socket.socket]:
    """Listens on all addresses of a host, on the same port. `::` stands for IPv4 as well.

    Raises:
        OSError: on one of them it is not possible.
    """
    listening: list[socket.socket] = []
    try:
        for address in local_addresses(host):
            both = address == "::" and socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listening.append(
                socket.create_server((address, port), family=family, dualstack_ipv6=both)
            )
            port = listening[0].getsockname()[1]  # the others share one that was picked
    except OSError:
        for each in listening:
            each.close()
        raise
    return listening


def _is_here(address: str, family: socket.AddressFamily) -> bool:
    try:
        with socket.socket(family) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
