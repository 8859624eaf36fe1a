"""For callers of `http://` addresses."""

from __future__ import annotations

import ssl

# As `verify` of httpx, which otherwise reads the system's certificates for each client: 50 ms of
# processor time, and tests that wait for a server make a hundred.
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
