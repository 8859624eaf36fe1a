"""Addresses that others reach."""

from __future__ import annotations

import pytest

from rapport.common.settings import Settings, check_bind, is_loopback, load, warn_of_plain_keys


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback(host: str) -> None:
    """Only this machine reaches these, so they need no guard."""
    assert is_loopback(host)
    check_bind("grpc_host", host, guarded=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", "", "localhost."])  # noqa: S104
def test_elsewhere(host: str) -> None:
    """Any other may be reached, and needs one."""
    check_bind("grpc_host", host, guarded=True)
    with pytest.raises(
        ValueError, match=r"grpc_host .*: set api_keys, api_keys_file, a CA .* allow_public_bind"
    ):
        check_bind("grpc_host", host, guarded=False)


@pytest.mark.parametrize(
    ("keys", "host", "lines"),
    [("k", "10.0.0.1", 1), ("", "10.0.0.1", 0), ("k", "127.0.0.1", 0)],
)
def test_keys_in_plain_text(
    keys: str, host: str, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Keys that cross a network without TLS are warned of in one line."""
    warn_of_plain_keys(load(Settings, ["--api-keys", keys]), "http_host", host)
    assert len(caplog.records) == lines
