"""Certificates in files: what can be used, what is said of the rest, and what a change does."""

from __future__ import annotations

import datetime as dt
import logging
import ssl
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from rapport.common.tls import CertificateError, Reloaded, TlsFiles, server_files
from tests.certificates import Authority

SOME_DAY = dt.datetime(2048, 5, 6, 7, 8, 9, tzinfo=dt.UTC)


def paths(files: TlsFiles) -> tuple[Path, Path]:
    assert files.chain
    assert files.key
    return files.chain, files.key


def test_a_pair_is_read(ca: Authority) -> None:
    """A chain, its key and a CA are read as they stand in their files."""
    chain, key = paths(ca.issue("a"))
    pem = TlsFiles(chain, key, ca.path).read()
    assert (pem.chain, pem.key, pem.ca) == (
        chain.read_bytes(),
        key.read_bytes(),
        ca.path.read_bytes(),
    )


def test_nothing_is_read_of_nothing() -> None:
    """A client that trusts the public CAs and shows nothing needs no files."""
    assert TlsFiles().read() == TlsFiles().read()


@pytest.mark.parametrize("text", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA"])
@pytest.mark.parametrize("wrong", ["chain", "key", "ca"])
def test_other_contents(ca: Authority, tmp_path: Path, wrong: str, text: str) -> None:
    """A file that holds something else is named."""
    chain, key = paths(ca.issue("a"))
    broken = tmp_path / "broken"
    broken.write_text(text)
    named = {"chain": chain, "key": key, "ca": ca.path, wrong: broken}
    with pytest.raises(CertificateError, match=r"/broken"):
        TlsFiles(**named).read()


def test_missing_file(ca: Authority, tmp_path: Path) -> None:
    """A file that is not there is named, with the reason."""
    chain, _ = paths(ca.issue("a"))
    with pytest.raises(CertificateError, match=r"/nowhere: No such file or directory"):
        TlsFiles(chain, tmp_path / "nowhere").read()


def test_key_of_another_certificate(ca: Authority) -> None:
    """A key that is another's is no key of the certificate."""
    (chain, _), (_, key) = paths(ca.issue("a")), paths(ca.issue("b"))
    with pytest.raises(CertificateError, match=r"a\.pem and .*b\.key .*KEY_VALUES_MISMATCH"):
        TlsFiles(chain, key).read()


def test_encrypted_key(ca: Authority) -> None:
    """A key that needs a password is refused; nobody is asked for one."""
    chain, path = paths(ca.issue("a"))
    key = load_pem_private_key(path.read_bytes(), None)
    sealed = BestAvailableEncryption(b"sesame")
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed))
    with pytest.raises(CertificateError, match="the key is encrypted"):
        TlsFiles(chain, path).read()


def test_files_that_change_while_read(ca: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was checked is what is returned: a swap in between is noticed."""
    files = ca.issue("a")
    check = TlsFiles.context

    def swapped(self: TlsFiles) -> ssl.SSLContext:
        try:
            return check(self)
        finally:
            ca.issue("a")

    monkeypatch.setattr(TlsFiles, "context", swapped)
    with pytest.raises(CertificateError, match="changes as it is read"):
        files.read()


def test_old_protocols_and_ciphers_are_left_out(ca: Authority) -> None:
    """TLS 1.2 is the oldest, and each cipher has forward secrecy and is authenticated."""
    context = ca.issue("a").context()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    for cipher in context.get_ciphers():
        assert cipher["aead"]
        assert cipher["kea"] in ("kx-ecdhe", "kx-any")


@pytest.mark.parametrize(("mode", "lines"), [(0o600, 0), (0o400, 0), (0o640, 1), (0o604, 1)])
def test_key_that_others_read(
    ca: Authority, mode: int, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A key that its group or others may read is warned of in one line."""
    files = ca.issue("a")
    _, key = paths(files)
    key.chmod(mode)
    Reloaded(files, TlsFiles.read)
    assert len(caplog.records) == lines
    assert all(f"mode is {mode:o}" in record.getMessage() for record in caplog.records)


def test_expiry(ca: Authority) -> None:
    """That of the certificate in Unix time, not that of its CA; none where there is none."""
    files = ca.issue("a", end=SOME_DAY)
    assert files.expiry() == SOME_DAY.timestamp()
    assert TlsFiles(ca=ca.path).expiry() is None


@pytest.mark.parametrize(
    ("left", "message"),
    [
        (dt.timedelta(days=14, minutes=5), ""),
        (dt.timedelta(days=13), "expires"),
        (dt.timedelta(minutes=-5), "has expired"),
    ],
)
def test_end_that_is_near(
    ca: Authority, caplog: pytest.LogCaptureFixture, left: dt.timedelta, message: str
) -> None:
    """A certificate that ends within two weeks is warned of in one line, at start and renewal."""
    files = ca.issue("a")
    reloaded = Reloaded(files, TlsFiles.read)
    assert not caplog.records
    end = (dt.datetime.now(dt.UTC) + left).replace(microsecond=0)
    ca.issue("a", end=end)
    expected = [f"{files.chain} {message}: {end.isoformat()}"] if message else []
    for look in (reloaded.renew, partial(Reloaded, files, TlsFiles.read)):
        caplog.clear()
        look()
        assert [record.getMessage() for record in caplog.records] == expected
    caplog.clear()
    reloaded.renew()
    assert not caplog.records


def test_end_that_cannot_be_told(
    ca: Authority, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate whose end cannot be read is served all the same, with a line in the log."""
    monkeypatch.setattr("rapport.common.tls.not_after", lambda _: int("no number"))
    reloaded = Reloaded(ca.issue("a"), TlsFiles.read)
    assert reloaded.value.chain
    assert reloaded.expiry is None
    assert "cannot be told when it expires" in caplog.text


class TestReloaded:
    @pytest.fixture(autouse=True)
    def _log(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)

    def test_unchanged(self, ca: Authority) -> None:
        """What has not changed is not read again."""
        reloaded = Reloaded(ca.issue("a"), TlsFiles.read)
        before = reloaded.value
        reloaded.renew()
        assert reloaded.value is before

    def test_changed(self, ca: Authority) -> None:
        """A new pair takes the place of the old one, once."""
        files = ca.issue("a")
        reloaded = Reloaded(files, TlsFiles.read)
        ca.issue("a", end=SOME_DAY)
        reloaded.renew()
        taken = reloaded.value
        assert taken == files.read()
        assert reloaded.expiry == SOME_DAY.timestamp()
        reloaded.renew()
        assert reloaded.value is taken

    def test_moved_link(self, tmp_path: Path) -> None:
        """Files behind a link that is moved, as Kubernetes does it, are new files."""
        link = tmp_path / "current"
        for name in ("old", "new"):
            (tmp_path / name).mkdir()
            Authority(tmp_path / name).issue("a")
        link.symlink_to("old")
        reloaded = Reloaded(TlsFiles(link / "a.pem", link / "a.key"), TlsFiles.read)
        (tmp_path / "next").symlink_to("new")
        (tmp_path / "next").rename(link)
        reloaded.renew()
        assert reloaded.value.chain == (tmp_path / "new" / "a.pem").read_bytes()

    def test_half_of_a_change(self, ca: Authority, caplog: pytest.LogCaptureFixture) -> None:
        """While the pair does not fit the old one stays; that is logged once, then the end."""
        files = ca.issue("a", end=SOME_DAY)
        chain, key = paths(files)
        reloaded = Reloaded(files, TlsFiles.read)
        before = reloaded.value
        new_chain, new_key = (path.read_bytes() for path in paths(ca.issue("b")))
        for half in (new_key[:50], new_key):
            key.write_bytes(half)
            reloaded.renew()
            reloaded.renew()
            assert reloaded.value is before
            assert reloaded.expiry == SOME_DAY.timestamp()
        assert caplog.text.count("the certificate from before stays in use") == 1
        chain.write_bytes(new_chain)
        reloaded.renew()
        assert reloaded.value.chain == new_chain
        assert "a.pem has changed and is in use" in caplog.text

    def test_removed(self, ca: Authority) -> None:
        """Files that vanish leave what was read of them."""
        files = ca.issue("a")
        chain, key = paths(files)
        reloaded = Reloaded(files, TlsFiles.read)
        chain.unlink()
        key.unlink()
        reloaded.renew()
        assert reloaded.value.chain


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"chain": Path("c")}, "grpc_tls_key is needed along with grpc_tls_cert"),
        ({"key": Path("k")}, "grpc_tls_cert is needed along with grpc_tls_key"),
        ({"client_ca": Path("a")}, "grpc_client_ca is for TLS: set grpc_tls_cert"),
    ],
)
def test_settings_that_need_another(given: dict[str, Path], message: str) -> None:
    """A setting without the one that it needs is reported by both names."""
    with pytest.raises(ValueError, match=message):
        server_files("grpc", **{"chain": None, "key": None, "client_ca": None, **given})
