"""Settings of every process: addresses that others reach, and secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from rapport.common.settings import (
    MAX_SOCKET_PATH_BYTES,
    Settings,
    SettingsError,
    check_bind,
    is_loopback,
    load,
    warn_of_plain_keys,
)


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
    warn_of_plain_keys(Settings(api_keys=SecretStr(keys)), "http_host", host)
    assert len(caplog.records) == lines


@pytest.mark.parametrize("flags", [["--api-keys", "sesame"], ["--api-keys=sesame"]])
def test_secrets_are_no_flags(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Everybody on the machine sees the flags of a process: a key among them is refused."""
    with pytest.raises(SettingsError, match="set RAPPORT_API_KEYS") as raised:
        load(Settings, flags)
    assert "sesame" not in str(raised.value)
    with pytest.raises(SystemExit):
        load(Settings, ["--help"])
    assert "--api-keys " not in capsys.readouterr().out


@pytest.mark.parametrize("keys", [",", " ", " , ,"])
def test_keys_that_are_none(keys: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sets keys does not mean to serve everybody: a list without one is refused."""
    monkeypatch.setenv("RAPPORT_API_KEYS", keys)
    with pytest.raises(SettingsError, match="api_keys: there is no key in it"):
        load(Settings, [])


def test_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable is one that is not set."""
    monkeypatch.setenv("RAPPORT_API_KEYS", "")
    assert not load(Settings, []).asks_for_key


def test_the_path_of_a_socket_is_bounded() -> None:
    """The kernel takes no longer one, and would not say why."""
    longest = "/" + "x" * (MAX_SOCKET_PATH_BYTES - 1)
    assert load(Settings, ["--grpc-socket", longest]).grpc_socket
    with pytest.raises(SettingsError, match=r"grpc_socket: .* at most 103 bytes"):
        load(Settings, ["--grpc-socket", longest + "x"])


@pytest.mark.parametrize("text", [b"\xff", b"a = " + b"[" * 100_000])
def test_a_file_that_cannot_be_read(text: bytes, tmp_path: Path) -> None:
    """Whatever the configuration file holds, it is reported in a line."""
    file = tmp_path / "rapport.toml"
    file.write_bytes(text)
    with pytest.raises(SettingsError, match="the configuration file cannot be read"):
        load(Settings, ["--config", str(file)])


def test_keys_of_the_file_are_settings(tmp_path: Path) -> None:
    """What is no setting of any process is refused by its name; it would be without effect."""
    file = tmp_path / "rapport.toml"
    file.write_text('max_waiting = 3\nmodel = "m"\nhttp_port = 1\n')  # of other processes
    assert load(Settings, ["--config", str(file)])
    file.write_text("max_waitng = 3\n[service]\nslots = 3\n")
    with pytest.raises(SettingsError) as raised:
        load(Settings, ["--config", str(file)])
    assert str(raised.value) == (
        f"{file}: 'max_waitng' is no setting (did you mean 'max_waiting'?); "
        f"{file}: 'service' is no setting"
    )
