"""Certificates that tests make, as files."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import trustme

from rapport.common.tls import TlsFiles

BEGIN = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
A_DAY_LATER = BEGIN + dt.timedelta(days=1)
NAMES = ("localhost", "127.0.0.1")


class Authority:
    """A CA, its certificate in a file, that issues certificates into the same folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.path = folder / f"{name}.pem"
        self._folder = folder
        self._ca = trustme.CA()
        self._ca.cert_pem.write_to_path(self.path)

    def issue(
        self, name: str, *hosts: str, expired: bool = False, end: dt.datetime | None = None
    ) -> TlsFiles:
        """A certificate chain and key, `<name>.pem` and `<name>.key`; again replaces them."""
        made = self._ca.issue_cert(
            *(hosts or NAMES), not_before=BEGIN, not_after=A_DAY_LATER if expired else end
        )
        files = TlsFiles(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        assert files.chain
        assert files.key
        files.key.touch(mode=0o600)
        made.private_key_pem.write_to_path(files.key)
        files.chain.write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))
        return files
