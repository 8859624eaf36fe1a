"""The settings: their sources, their order, and the rule for public addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

from rapport.common.settings import SettingsError
from rapport.common.settings import load as load_settings
from rapport.gateway.config import GatewaySettings


def load(flags: list[str]) -> GatewaySettings:
    return load_settings(GatewaySettings, flags)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_defaults() -> None:
    """Without any source it serves this machine, and the service is expected there."""
    settings = load([])
    assert (settings.http_host, settings.http_port) == ("127.0.0.1", 8080)
    assert settings.target == "127.0.0.1:50051"
    assert settings.max_body_bytes == 4 * 2**20
    assert settings.request_timeout is None
    assert settings.unknown_fields == "error"


def test_order_of_sources(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flags go before the environment, that before the file; the service's keys are ignored."""
    text = 'http_port = 1\ngrpc_port = 2\nsse_keepalive = 3\nmodel = "m"\n'
    elsewhere.joinpath("rapport.toml").write_text(text)
    monkeypatch.setenv("RAPPORT_HTTP_PORT", "4")
    monkeypatch.setenv("RAPPORT_GRPC_PORT", "5")
    settings = load(["--http-port", "6"])
    assert (settings.http_port, settings.grpc_port, settings.sse_keepalive) == (6, 5, 3)


def test_named_file(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is named by a flag or by the environment; one that is missing is an error."""
    elsewhere.joinpath("a.toml").write_text('max_body_bytes = "1MiB"')
    assert load(["--config", "a.toml"]).max_body_bytes == 2**20
    monkeypatch.setenv("RAPPORT_CONFIG", "missing.toml")
    with pytest.raises(SettingsError, match=r"missing\.toml"):
        load([])
    elsewhere.joinpath("b.toml").write_text("=")
    with pytest.raises(SettingsError, match="configuration file"):
        load(["--config", "b.toml"])


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_is_open(host: str) -> None:
    """Loopback addresses need no keys."""
    assert load(["--http-host", host]).http_host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])  # noqa: S104
def test_public_address_needs_keys(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another address is refused without keys, unless it is said to be meant."""
    with pytest.raises(SettingsError, match="allow_public_bind"):
        load(["--http-host", host])
    assert load(["--http-host", host, "--allow-public-bind"]).keys == ()
    assert load(["--http-host", host, "--api-keys-file", "keys.toml"]).asks_for_key
    tls = ["--http-tls-cert", "c", "--http-tls-key", "k"]
    assert load(["--http-host", host, *tls, "--http-client-ca", "a"]).keys == ()
    with pytest.raises(SettingsError):
        load(["--http-host", host, *tls])
    monkeypatch.setenv("RAPPORT_API_KEYS", "a, b")
    assert load(["--http-host", host]).keys == ("a", "b")


@pytest.mark.parametrize(
    ("flags", "is_secure"),
    [
        ([], False),
        (["--upstream-tls"], True),
        (["--upstream-ca", "a"], True),
        (["--upstream-cert", "c", "--upstream-key", "k"], True),
        (["--upstream-server-name", "n"], True),
    ],
)
def test_upstream_over_tls(flags: list[str], is_secure: bool) -> None:
    """TLS towards the service is on when it is asked for or when anything of it is set."""
    assert (load(flags).upstream_files is not None) == is_secure


def test_mistakes_are_told_in_a_line() -> None:
    """Wrong values are named in one line, without the values of keys."""
    with pytest.raises(SettingsError) as caught:
        load(["--http-port", "x", "--unknown-fields", "error", "--request-timeout", "0"])
    assert str(caught.value).startswith("http_port: Input should be a valid integer")
    assert "request_timeout: Input should be greater than 0" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_upstream_and_ipv6() -> None:
    """A target stands for host and port, and an IPv6 host is put in brackets."""
    assert load(["--upstream", "dns:///localhost:1"]).target == "dns:///localhost:1"
    assert load(["--grpc-host", "::1"]).target == "[::1]:50051"


def test_upstream_at_a_socket() -> None:
    """The service's socket goes before its port, and an upstream before both."""
    socket = ["--grpc-socket", "/run/rapport/grpc"]
    assert load(socket).target == "unix:/run/rapport/grpc"
    assert load([*socket, "--upstream", "localhost:1"]).target == "localhost:1"
    assert load([*socket, "--upstream-ca", "a"]).target == "127.0.0.1:50051"


@pytest.mark.parametrize("flags", [["--upstream", "dns:///svc:1"], ["--grpc-host", "10.0.0.1"]])
def test_keys_do_not_cross_a_network_in_plain_text(flags: list[str]) -> None:
    """A service on another machine is reached over TLS, unless a setting says that it need not."""
    with pytest.raises(SettingsError, match="would get callers' keys without TLS"):
        load(flags)
    assert load([*flags, "--upstream-tls"]).upstream_files
    assert load([*flags, "--allow-plain-upstream"]).upstream_files is None


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """--help explains the flags in kebab case."""
    with pytest.raises(SystemExit) as caught:
        load(["--help"])
    assert caught.value.code == 0
    assert "--http-port" in capsys.readouterr().out
