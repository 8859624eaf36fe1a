"""TLS of the gRPC server."""

from __future__ import annotations

import grpc

from rapport.common.tls import Reloaded, TlsFiles

Certificate = Reloaded[grpc.ServerCertificateConfiguration]


def server_certificate(files: TlsFiles) -> Certificate:
    """The certificate of a server.

    Raises:
        CertificateError: the files cannot be used.
    """
    return Reloaded(files, _configuration)


def server_credentials(certificate: Certificate) -> grpc.ServerCredentials:
    """Credentials that each new connection finds as the files are then.

    With a CA, callers must show a certificate of it.
    """
    shown = certificate.value

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        certificate.renew()
        if certificate.value is shown:
            return None
        shown = certificate.value
        return shown

    return grpc.dynamic_ssl_server_credentials(
        shown,
        renewed,  # type: ignore[arg-type] # None is for no change
        require_client_authentication=certificate.files.ca is not None,
    )


def _configuration(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    pem = files.read()
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.chain)], pem.ca or None)
