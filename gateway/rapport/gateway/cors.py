"""Calls from the pages of other origins, which browsers ask for first (CORS).

Source: the Fetch standard, https://fetch.spec.whatwg.org/#http-cors-protocol.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from rapport.gateway.http1.exchange import Exchange
from rapport.gateway.http1.responses import Expose, Headers

ANY = "*"
METHODS = "GET, HEAD, POST"
MAX_AGE_S = 600
# Names of headers, which are sent back as they came.
_NAMES = re.compile(r"[\w, -]{1,1000}", re.ASCII)
# What pages see anyway, and what means nothing to them.
_SAFE = {"content-type", "content-length", "cache-control", "date", "connection", "vary"}


class CrossOrigin:
    """Says which origins' pages may call. Without any, it adds nothing."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = {origin.lower() for origin in origins}

    def expose(self, origin: str) -> Expose:
        """What has every answer say whether the page that sent the request may read it."""
        if not self._origins:
            return lambda _: {}
        if not self._allows(origin):
            return lambda _: {"vary": "Origin"}
        any_origin = ANY in self._origins
        allowed = {"access-control-allow-origin": ANY if any_origin else origin}
        varies = {} if any_origin else {"vary": "Origin"}

        def shown(headers: Headers) -> Headers:
            names = sorted({*headers, "x-request-id"} - _SAFE)
            names = [name for name in names if not name.startswith("access-control-")]
            return {**allowed, **varies, "access-control-expose-headers": ", ".join(names)}

        return shown

    async def answer_preflight(self, exchange: Exchange) -> bool:
        """Answers what a browser asks before a call; false if this is no such question.

        The call's key is not part of it.
        """
        if exchange.method != "OPTIONS" or not self._allows(exchange.headers.get("origin", "")):
            return False
        if "access-control-request-method" not in exchange.headers:
            return False
        wanted = exchange.headers.get("access-control-request-headers", "")
        names = wanted if _NAMES.fullmatch(wanted) else "authorization, content-type"
        headers = {
            "access-control-allow-methods": METHODS,
            "access-control-allow-headers": names,
            "access-control-max-age": str(MAX_AGE_S),
        }
        await exchange.respond(200, b"", headers)
        return True

    def _allows(self, origin: str) -> bool:
        return bool(origin) and (ANY in self._origins or origin.lower() in self._origins)
