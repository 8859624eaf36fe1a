"""What the gateway serves of its own: health, the API's description and its reference page."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from rapport.gateway.drain import DrainState
from rapport.gateway.errors import method_not_allowed
from rapport.gateway.http1.exchange import Exchange
from rapport.gateway.upstream.upstream import Upstream

JSON = {"content-type": "application/json"}

SCRIPTS = ("docs.js", "api.js", "dom.js", "fields.js", "samples.js", "schema.js")
# Where each asset is, and what it is.
ASSETS = {
    "/docs": ("docs.html", "text/html; charset=utf-8"),
    "/docs/docs.css": ("docs.css", "text/css; charset=utf-8"),
    "/docs/icon.svg": ("icon.svg", "image/svg+xml"),
    **{f"/docs/{name}": (name, "text/javascript; charset=utf-8") for name in SCRIPTS},
}
# Whether requests should come; whether the process should be restarted.
READY, ALIVE = "/health", "/health/live"
HOME, REFERENCE = "/", "/docs"
PATHS = (HOME, READY, ALIVE, "/openapi.json", *ASSETS)
# The page is made of what this server sends, and of nothing else.
SECURITY = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
FRESH = {"cache-control": "no-cache"}


class Pages:
    """The gateway's own pages. They are open: a key is asked for by the service."""

    def __init__(self, upstream: Upstream, drain: DrainState) -> None:
        self._upstream = upstream
        self._drain = drain
        folder = files("rapport.gateway") / "assets"
        self._assets = {
            path: ((folder / name).read_bytes(), {"content-type": kind, **SECURITY, **FRESH})
            for path, (name, kind) in ASSETS.items()
        }

    async def answer(self, exchange: Exchange) -> None:
        """Answers a request for one of PATHS."""
        if exchange.method not in ("GET", "HEAD"):
            raise method_not_allowed(["GET"])
        if exchange.path == HOME:
            await exchange.respond(307, b"", {"location": REFERENCE})
            return
        body, headers = await self._page(exchange.path)
        await exchange.respond(200, body, headers)

    async def _page(self, path: str) -> tuple[bytes, Mapping[str, str]]:
        if path in (READY, ALIVE):
            if path == READY:
                self._drain.check_health()
                await self._upstream.check_health()
            return b'{"status":"ok"}', JSON
        self._drain.check_accepting()
        if path == "/openapi.json":
            return self._upstream.description, {**JSON, **FRESH}
        return self._assets[path]
