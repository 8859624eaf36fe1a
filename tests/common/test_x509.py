"""When certificates expire, for certificates that cryptography makes."""

from __future__ import annotations

import datetime as dt
from base64 import b64encode
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from rapport.common.x509 import BEGIN, END, not_after
from tests.certificates import Authority

KEYS = [
    ec.generate_private_key(ec.SECP256R1()),
    ed25519.Ed25519PrivateKey.generate(),
    rsa.generate_private_key(65537, 2048),
]
EARLIEST, LATEST = dt.datetime(1950, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59)  # noqa: DTZ001 - as hypothesis wants them


def certificate(
    end: dt.datetime,
    *,
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey = KEYS[0],
    serial: int = 1,
    name: str = "a",
    hosts: int = 0,
) -> bytes:
    """One in PEM that ends then."""
    names = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, name)])
    made = x509.CertificateBuilder(names, names, key.public_key(), serial, EARLIEST, end)
    if hosts:
        listed = [x509.DNSName(f"{number}.example.org") for number in range(hosts)]
        made = made.add_extension(x509.SubjectAlternativeName(listed), critical=False)
    signature = None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()
    return made.sign(key, signature).public_bytes(Encoding.PEM)


@given(
    end=st.datetimes(EARLIEST, LATEST),
    key=st.sampled_from(KEYS),
    serial=st.integers(1, 2**159 - 1),
    name=st.text(min_size=1, max_size=64),
    hosts=st.sampled_from([0, 1, 10, 3000]),
)
def test_ends_are_read(
    end: dt.datetime,
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey,
    serial: int,
    name: str,
    hosts: int,
) -> None:
    """To the second, whatever else a certificate holds and however long it is."""
    pem = certificate(end, key=key, serial=serial, name=name, hosts=hosts)
    assert not_after(pem) == end.replace(microsecond=0, tzinfo=dt.UTC).timestamp()


@pytest.mark.parametrize("year", [1950, 1969, 1970, 1999, 2000, 2049, 2050, 2068, 2069, 9999])
def test_years_of_two_digits(year: int) -> None:
    """Up to 2049 a year has two digits, which stand for those from 1950 on."""
    end = dt.datetime(year, 6, 1, tzinfo=dt.UTC)
    assert not_after(certificate(end.replace(tzinfo=None))) == end.timestamp()


def test_the_first_of_a_chain_counts(tmp_path: Path) -> None:
    """It is the server's own; what stands before it is skipped, in whatever encoding."""
    files = Authority(tmp_path).issue("a")
    assert files.chain
    pem = files.chain.read_bytes()
    end = x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
    later = certificate(LATEST)
    for text in (pem + later, "# für uns\n".encode() + pem, pem.replace(b"\n", b"\r\n")):
        assert not_after(text) == end


WHOLE = x509.load_pem_x509_certificate(certificate(LATEST)).public_bytes(Encoding.DER)


def pem_of(der: bytes) -> bytes:
    return BEGIN + b"\n" + b64encode(der) + b"\n" + END


@given(
    st.one_of(st.binary(max_size=60), st.integers(0, len(WHOLE) - 1).map(lambda end: WHOLE[:end]))
)
def test_other_bytes(der: bytes) -> None:
    """Noise and halves of a certificate are a ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011 - any will do
        not_after(pem_of(der))


@pytest.mark.filterwarnings("ignore")  # the library warns of odd values that it accepts
@given(st.dictionaries(st.integers(0, len(WHOLE) - 1), st.integers(0, 255), max_size=3))
def test_changed_bytes(changes: dict[int, int]) -> None:
    """A certificate that is not quite one has an end, or is a ValueError."""
    der = bytes(changes.get(place, byte) for place, byte in enumerate(WHOLE))
    with suppress(ValueError):
        assert isinstance(not_after(pem_of(der)), float)


@pytest.mark.parametrize("text", [b"", b"nonsense", BEGIN, BEGIN + END, BEGIN + b"\xff" + END])
def test_no_certificate(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any will do
        not_after(text)
