"""Tells callers apart, so that they share fairly what large bodies cost."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256

from rapport.gateway.http1.exchange import Exchange

MAX_KNOWN = 10_000


class Callers:
    """Names callers by their credentials if those were accepted before, else by their address.

    Otherwise somebody who invents credentials would pass for many callers. Only hashes are kept.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, None] = OrderedDict()

    def name(self, exchange: Exchange) -> str:
        """The caller of a request."""
        credentials = _hash(exchange)
        return credentials if credentials in self._known else exchange.address

    def accept(self, exchange: Exchange) -> None:
        """Notes that a request with its credentials succeeded."""
        if "authorization" in exchange.headers:
            self._known[_hash(exchange)] = None
            self._known.move_to_end(_hash(exchange))
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)


def _hash(exchange: Exchange) -> str:
    return sha256(exchange.headers.get("authorization", "").encode("latin-1")).hexdigest()
