"""TLS of the gateway: as a server of REST, and as a client of the service."""

from __future__ import annotations

import ssl

import grpc

from rapport.common.tls import Reloaded, TlsFiles


def server_context(certificate: Reloaded[ssl.SSLContext]) -> ssl.SSLContext:
    """A context that each new connection finds as the files are then."""
    listening = certificate.value

    def renew(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        del name, context
        certificate.renew()
        connection.context = certificate.value

    listening.sni_callback = renew
    return listening


def channel_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    """Credentials of a client; without a CA it trusts the public ones that gRPC knows.

    Raises:
        CertificateError: the files cannot be used.
    """
    pem = files.read()
    return grpc.ssl_channel_credentials(pem.ca or None, pem.key or None, pem.chain or None)
