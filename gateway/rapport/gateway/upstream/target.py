"""Where a gRPC target leads to.

Their syntax: https://github.com/grpc/grpc/blob/master/doc/naming.md
"""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from urllib.parse import urlsplit

from rapport.common.settings import is_loopback

UNIX_SCHEMES = ("unix:", "unix-abstract:")
ADDRESS_SCHEMES = ("ipv4:", "ipv6:", "dns:")


def is_socket(target: str) -> bool:
    """Whether it is a Unix socket."""
    return target.startswith(UNIX_SCHEMES)


def is_local(target: str) -> bool:
    """Whether what is sent there stays on this machine."""
    return is_socket(target) or all(map(_is_local_host, _hosts(target)))


def _hosts(target: str) -> list[str]:
    """The hosts of `[scheme:][//authority/]host[:port][,host[:port]]...`."""
    for scheme in ADDRESS_SCHEMES:
        target = target.removeprefix(scheme)
    addresses = target.rpartition("/")[2].split(",")
    return [urlsplit(f"//{address}").hostname or "" for address in addresses]


def _is_local_host(host: str) -> bool:
    with suppress(ValueError):
        if ipaddress.ip_address(host).is_unspecified:
            return True  # connecting to it is connecting to this machine
    return is_loopback(host)
