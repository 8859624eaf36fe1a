"""HTTP/1.1 of clients that offer to go over to another protocol."""

from __future__ import annotations

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Parser(httptools.HttpRequestParser):
    """Reads a request that asks for an upgrade as if it did not: nobody has to grant one.

    httptools stops behind such a head and takes what follows for the other protocol's. It is the
    request's body and the next request, which would be lost; Java's client asks for h2c each time.
    """

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        super().__init__(protocol)
        self._protocol = protocol
        # As uvicorn's own: otherwise the answer to a last request could not be had.
        self.set_dangerous_leniencies(lenient_data_after_close=True)

    def reads_again(self) -> bool:
        """Whether the head that was read will be read once more, without its upgrade."""
        # What follows CONNECT has no other meaning.
        return self.should_upgrade() and self.get_method() != b"CONNECT"

    def feed_data(self, data: bytes | bytearray | memoryview) -> None:  # type: ignore[override]
        rest = memoryview(data)
        while rest:
            try:
                super().feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                if not self.reads_again():
                    raise
                rest = rest[upgrade.args[0] :]
            else:
                return
            super().feed_data(self._head())

    def _head(self) -> bytes:
        version = self.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.get_method(), self._protocol.url, version)]
        kept = (header for header in self._protocol.headers if header[0] != b"upgrade")
        lines += [b"%b: %b" % header for header in kept]
        return b"\r\n".join((*lines, b"", b""))
