from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import CollectorRegistry

from rapport.common.metrics.certificates import Certificates
from rapport.common.tls import Reloaded, TlsFiles
from tests.certificates import Authority

SOON, LATER = (dt.datetime(year, 2, 3, 4, 5, 6, tzinfo=dt.UTC) for year in (2047, 2048))


@pytest.fixture
def certificates() -> Certificates:
    return Certificates("rapport_part")


def expiry(certificates: Certificates, setting: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(certificates)
    name = "rapport_part_certificate_expiry_timestamp_seconds"
    return registry.get_sample_value(name, {"setting": setting})


def test_each_by_its_setting(ca: Authority, certificates: Certificates) -> None:
    """A process tells of all its certificates, in Unix time."""
    for setting, end in (("one", SOON), ("two", LATER)):
        certificates.add(setting, Reloaded(ca.issue(setting, end=end), TlsFiles.read))
    assert expiry(certificates, "one") == SOON.timestamp()
    assert expiry(certificates, "two") == LATER.timestamp()


def test_cas_alone(ca: Authority, certificates: Certificates) -> None:
    """Who only trusts others has no certificate that could expire."""
    certificates.add("one", Reloaded(TlsFiles(ca=ca.path), TlsFiles.read))
    assert expiry(certificates, "one") is None


def test_renewed(ca: Authority, certificates: Certificates) -> None:
    """A new certificate counts though nobody has connected; a broken one leaves the old."""
    files = ca.issue("one", end=SOON)
    certificates.add("one", Reloaded(files, TlsFiles.read))
    ca.issue("one", end=LATER)
    assert expiry(certificates, "one") == LATER.timestamp()
    assert files.key
    files.key.write_text("")
    assert expiry(certificates, "one") == LATER.timestamp()


def test_scrapes_at_once_renew_once(
    ca: Authority, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    """However many look at the same time, a change is taken up and logged once."""
    caplog.set_level("INFO")
    certificates.add("one", Reloaded(ca.issue("one", end=SOON), TlsFiles.read))
    ca.issue("one", end=LATER)
    with ThreadPoolExecutor(8) as pool:
        seen = set(pool.map(lambda _: expiry(certificates, "one"), range(40)))
    assert seen == {LATER.timestamp()}
    assert caplog.text.count("has changed and is in use") == 1
