"""When a certificate expires, read from its file.

The standard library tells that of CAs, and of a peer's certificate that has not expired; of one's
own only in private functions.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import datetime

BEGIN, END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
# Tags of DER (X.690) and places in a certificate (RFC 5280, 4.1).
VERSION, UTC_TIME, GENERALIZED_TIME = 0xA0, 0x17, 0x18
VALIDITY = 3  # behind serial number, algorithm and issuer
LONG = 0x80


def not_after(chain: bytes) -> float:
    """When the first certificate of a PEM file expires, in Unix time.

    Raises:
        ValueError: it is no certificate as RFC 5280 has it.
    """
    _, begin, rest = chain.partition(BEGIN)
    text, end, _ = rest.partition(END)
    der = ssl.PEM_cert_to_DER_cert((begin + text + end).decode("ascii"))
    try:
        (_, certificate), *_ = _values(der)
        (_, described), *_ = _values(certificate)
        fields = [content for tag, content in _values(described) if tag != VERSION]
        _, (tag, time) = _values(fields[VALIDITY])
    except IndexError:
        raise ValueError("it is cut short") from None
    return _unix_time(tag, time.decode("ascii"))


def _values(der: bytes) -> Iterator[tuple[int, bytes]]:
    """The values that stand one after the other: tag and content."""
    while der:
        tag, length, start = der[0], der[1], 2
        if length & LONG:
            start += length - LONG
            length = int.from_bytes(der[2:start])
        end = start + length
        if end > len(der):
            raise ValueError("it is cut short")
        yield tag, der[start:end]
        der = der[end:]


def _unix_time(tag: int, text: str) -> float:
    if tag == UTC_TIME:
        # Its years are those from 1950 to 2049.
        text = ("19" if text >= "50" else "20") + text
    elif tag != GENERALIZED_TIME:
        raise ValueError("it has no end")
    return datetime.strptime(text, "%Y%m%d%H%M%S%z").timestamp()
