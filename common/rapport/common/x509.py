"""When a certificate expires, read from its PEM file.

The standard library can tell it only of CAs and of a peer's valid certificate.
"""

from __future__ import annotations

BEGIN, END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


def not_after(chain: bytes) -> float:
    """When the first certificate of a PEM file expires, in Unix time.

    Raises:
        ValueError: It is not a certificate as RFC 5280 defines it.
    """
    # It takes 16 MiB, which a process without certificates does not need.
    from cryptography import x509  # noqa: PLC0415 - see above

    # Comments around it may be in any encoding, and the parser takes UTF-8 only.
    _, begin, rest = chain.partition(BEGIN)
    text, end, _ = rest.partition(END)
    try:
        certificate = x509.load_pem_x509_certificate(begin + text + end)
    except x509.InvalidVersion as error:  # the library's one error that is no ValueError
        raise ValueError(str(error)) from error
    return certificate.not_valid_after_utc.timestamp()
