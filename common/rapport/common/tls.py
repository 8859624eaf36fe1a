"""Certificates in PEM files: checked, and read again when the files change."""

from __future__ import annotations

import logging
import ssl
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

from rapport.common.x509 import not_after

logger = logging.getLogger("rapport.tls")

# Forward secrecy and authenticated encryption; of TLS 1.3 OpenSSL offers nothing else.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"

# How long before its expiry a certificate is warned of.
EXPIRY_WARNING = timedelta(days=14)

T = TypeVar("T")


class CertificateError(Exception):
    """A certificate, a key or a CA cannot be used; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Pem:
    """What the files hold; nothing for one that is not set."""

    chain: bytes
    key: bytes
    ca: bytes


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """One side of TLS: its certificate chain and key, and the CAs that the other is held to."""

    chain: Path | None = None
    key: Path | None = None
    ca: Path | None = None

    @property
    def paths(self) -> tuple[Path | None, Path | None, Path | None]:
        return self.chain, self.key, self.ca

    def read(self) -> Pem:
        """Their contents, which fit together.

        Raises:
            CertificateError: they do not, or change as they are read.
        """
        pem = self._read()
        self.context()
        if self._read() != pem:
            raise CertificateError(f"{self.chain or self.ca} changes as it is read")
        return pem

    def context(self) -> ssl.SSLContext:
        """A server with this certificate; with a CA its clients must have one, too.

        Raises:
            CertificateError: a file is missing or holds something else.
        """
        pem = self._read()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        context.set_alpn_protocols(["http/1.1"])
        if self.chain is not None:
            self._load_chain(context, pem)
        if self.ca is not None:
            self._load_ca(context)
        return context

    def stamps(self) -> tuple[object, ...]:
        """A value that changes when a file does."""
        return tuple(_stamp(path) for path in self.paths if path)

    def expiry(self) -> float | None:
        """When the certificate expires, in Unix time; None without one, or if it cannot be read.

        Raises:
            CertificateError: its file is missing.
        """
        if self.chain is None:
            return None
        try:
            return not_after(self._read().chain)
        except ValueError as error:
            logger.warning("%s: cannot be told when it expires: %s", self.chain, error)
            return None

    def warn_of_readers(self) -> None:
        """Logs a line if others than its owner may read the key."""
        if self.key is None:
            return
        mode = stat.S_IMODE(self.key.stat().st_mode)
        if mode & (stat.S_IRGRP | stat.S_IROTH):
            logger.warning("%s: its mode is %o, so others can read the key", self.key, mode)

    def _read(self) -> Pem:
        try:
            return Pem(*(path.read_bytes() if path else b"" for path in self.paths))
        except OSError as error:
            raise CertificateError(f"{error.filename}: {error.strerror}") from None

    def _load_chain(self, context: ssl.SSLContext, pem: Pem) -> None:
        if b"-----BEGIN CERTIFICATE-----" not in pem.chain:
            raise CertificateError(f"{self.chain} holds no certificate in PEM")
        if b"PRIVATE KEY-----" not in pem.key:
            raise CertificateError(f"{self.key} holds no private key in PEM")
        try:
            context.load_cert_chain(str(self.chain), self.key, _no_password)
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            pair = f"{self.chain} and {self.key}"
            raise CertificateError(f"{pair} are no certificate and its key: {reason}") from None

    def _load_ca(self, context: ssl.SSLContext) -> None:
        try:
            context.load_verify_locations(self.ca)
        except (OSError, ValueError) as error:
            raise CertificateError(f"{self.ca} holds no CA certificate in PEM: {error}") from None
        context.verify_mode = ssl.CERT_REQUIRED
        # A session that is taken up again would not be held to a CA that has changed.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0


def server_files(
    name: str, chain: Path | None, key: Path | None, client_ca: Path | None
) -> TlsFiles | None:
    """The files of the settings <name>_tls_cert, _tls_key and _client_ca; None without any.

    Raises:
        ValueError: one is missing.
    """
    check_pair(f"{name}_tls_cert", chain, f"{name}_tls_key", key)
    if client_ca and not chain:
        raise ValueError(f"{name}_client_ca is for TLS: set {name}_tls_cert and {name}_tls_key")
    return TlsFiles(chain, key, client_ca) if chain else None


def check_pair(cert: str, chain: Path | None, key: str, private: Path | None) -> None:
    """Raises ValueError if only one of the settings `cert` and `key` is set."""
    if (chain is None) != (private is None):
        missing, given = (cert, key) if chain is None else (key, cert)
        raise ValueError(f"{missing} is needed along with {given}")


class Reloaded(Generic[T]):
    """A value made from files, and made again when they have changed and can be used."""

    def __init__(self, files: TlsFiles, make: Callable[[TlsFiles], T]) -> None:
        """Raises CertificateError if the files cannot be used."""
        self.files = files
        self._make = make
        self._lock = Lock()
        self._stamps = files.stamps()
        self._is_broken = False
        self.value, self.expiry = make(files), files.expiry()
        """The value, and when its certificate expires, as `TlsFiles.expiry` has it."""
        files.warn_of_readers()
        self._warn_of_expiry()

    def renew(self) -> None:
        """Looks at the files, from any thread; if they have changed, the value is a new one."""
        with self._lock:
            stamps = self.files.stamps()
            if stamps != self._stamps:
                self._take(stamps)

    def _take(self, stamps: tuple[object, ...]) -> None:
        try:
            self.value, self.expiry = self._make(self.files), self.files.expiry()
        except CertificateError as error:
            self._report(error)
            return
        self._stamps, self._is_broken = stamps, False
        logger.info("%s has changed and is in use", self.files.chain or self.files.ca)
        self._warn_of_expiry()

    def _warn_of_expiry(self) -> None:
        """Logs a line if the certificate has expired or soon will."""
        if self.expiry is None:
            return
        end, now = datetime.fromtimestamp(self.expiry, UTC), datetime.now(UTC)
        if end - now <= EXPIRY_WARNING:
            verb = "expires" if end > now else "has expired"
            logger.warning("%s %s: %s", self.files.chain, verb, end.isoformat())

    def _report(self, error: CertificateError) -> None:
        """Logs once that the files are broken, not at each change."""
        if not self._is_broken:
            logger.warning("the certificate from before stays in use: %s", error)
        self._is_broken = True


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _no_password() -> str:
    # Without it, OpenSSL would ask for one at the terminal.
    raise ValueError("the key is encrypted")
