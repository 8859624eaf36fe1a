"""The names under which the server may be called.

A page of the web may have its own name resolve to a loopback address, and then call what listens
there in its visitor's browser (DNS rebinding). Its name is what gives it away.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from http import HTTPStatus

from rapport.gateway.errors import ApiError, bad_request

_HOST = re.compile(r"(?:\[(?P<ipv6>[^]]*)]|(?P<name>[^:]*))(?::\d*)?")


class AllowedHosts:
    """Addresses, `localhost`, names without a dot, and those of the settings.

    Nobody can register a name without a dot, and a browser takes `*.localhost` for this machine.
    """

    def __init__(self, names: Collection[str], *, any_name: bool) -> None:
        self._names = {name.lower().rstrip(".") for name in names}
        self._any_name = any_name

    def check(self, authority: str) -> None:
        """Raises ApiError unless this host, with or without a port, is an allowed one."""
        if self._any_name or not authority:
            return
        match = _HOST.fullmatch(authority)
        name = (match["name"] if match else authority) or ""
        if match and (match["ipv6"] is not None or self._is_allowed(name.lower().rstrip("."))):
            return
        raise _misdirected(name)

    def _is_allowed(self, name: str) -> bool:
        return (
            "." not in name
            or name in self._names
            or name.endswith(".localhost")
            or _is_address(name)
        )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _misdirected(name: str) -> ApiError:
    return bad_request(
        f"The host {name[:100]!r} is not served here: the setting allowed_hosts lists names",
        status=HTTPStatus.MISDIRECTED_REQUEST,
    )
