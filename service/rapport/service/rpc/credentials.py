"""TLS of the gRPC server."""

from __future__ import annotations

import grpc

from rapport.common.tls import Reloaded, TlsFiles

Certificate = Reloaded[grpc.ServerCertificateConfiguration]


def server_certificate(files: TlsFiles) -> Certificate:
    """Loads the certificate of a server.

    Raises:
        CertificateError: the files cannot be used.
    """
    return Reloaded(files, _configuration)


def server_credentials(certificate: Certificate) -> grpc.ServerCredentials:
    """Credentials that are reloaded at each new connection if the files have changed.

    With a CA, clients must present a certificate of it.
    """
    current = certificate.value

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal current
        certificate.renew()
        if certificate.value is current:
            return None
        current = certificate.value
        return current

    return grpc.dynamic_ssl_server_credentials(
        current,
        changed,  # type: ignore[arg-type] # None is for no change
        require_client_authentication=certificate.files.ca is not None,
    )


def _configuration(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    pem = files.read()
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.chain)], pem.ca or None)
