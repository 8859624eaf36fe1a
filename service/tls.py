"""TLS of the gRPC server."""

from __future__ import annotations

import grpc

from rapport_settings.tls import Reloaded, TlsFiles


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials that each new connection finds as the files are then.

    With a CA, callers must show a certificate of it.

    Raises:
        CertificateError: the files cannot be used.
    """
    reloaded = Reloaded(files, _configuration)

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        return reloaded.value if reloaded.renew() else None

    return grpc.dynamic_ssl_server_credentials(
        reloaded.value,
        renewed,  # type: ignore[arg-type] # None is for no change
        require_client_authentication=files.ca is not None,
    )


def _configuration(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    pem = files.read()
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.chain)], pem.ca or None)
