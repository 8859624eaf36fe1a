from __future__ import annotations

from pathlib import Path

import pytest

from rapport.common.settings import SettingsError, load
from rapport.service.config import ServiceSettings
from rapport.service.keys.limits import KeyLimits


def settings(flags: list[str]) -> ServiceSettings:
    return load(ServiceSettings, flags)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_defaults() -> None:
    """Without any settings the service is open to this machine alone."""
    read = settings([])
    assert (read.grpc_host, read.grpc_port, read.keys) == ("127.0.0.1", 50051, ())


def test_sources_in_order(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag beats the environment, which beats the file, which beats the default."""
    (elsewhere / "rapport.toml").write_text("slots = 1\nmax_waiting = 1\nthreads = 1\n")
    monkeypatch.setenv("RAPPORT_SLOTS", "2")
    monkeypatch.setenv("RAPPORT_MAX_WAITING", "2")
    read = settings(["--slots", "3"])
    assert (read.slots, read.max_waiting, read.threads) == (3, 2, 1)


@pytest.mark.parametrize("by", ["flag", "environment"])
def test_named_file(by: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file may be named by a flag or the environment."""
    (elsewhere / "other.toml").write_text("slots = 5\n")
    monkeypatch.setenv("RAPPORT_CONFIG", "other.toml" if by == "environment" else "")
    assert settings(["--config", "other.toml"] if by == "flag" else []).slots == 5


def test_keys_of_the_gateway_are_ignored(elsewhere: Path) -> None:
    """The file may hold settings that are the gateway's."""
    (elsewhere / "rapport.toml").write_text('http_port = 8080\nunknown_fields = "error"\n')
    assert settings([]).slots == 16


def test_sizes_with_units() -> None:
    """Sizes of memory are written as people write them."""
    assert settings(["--kv-budget", "3GiB"]).kv_budget == 3 * 2**30


def test_api_keys_are_split_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are separated by commas and appear in no text of the settings."""
    monkeypatch.setenv("RAPPORT_API_KEYS", "sesame, abracadabra,")
    read = settings([])
    assert read.keys == ("sesame", "abracadabra")
    assert "sesame" not in f"{read!r} {read}"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_open_on_loopback(host: str) -> None:
    """A loopback address may be bound without keys."""
    assert settings(["--grpc-host", host]).grpc_host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com"])  # noqa: S104
def test_keys_elsewhere(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other address needs keys or client certificates, unless it is said to be meant."""
    with pytest.raises(SettingsError, match=f"{host} is reachable from elsewhere: set api_keys"):
        settings(["--grpc-host", host])
    tls = ["--grpc-tls-cert", "c", "--grpc-tls-key", "k"]
    with pytest.raises(SettingsError, match="grpc_host"):
        settings(["--grpc-host", host, *tls])
    for guard in ([*tls, "--grpc-client-ca", "a"], ["--allow-public-bind"]):
        assert settings(["--grpc-host", host, *guard]).grpc_host == host
    monkeypatch.setenv("RAPPORT_API_KEYS", "k")
    assert settings(["--grpc-host", host]).grpc_host == host


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--slots", "0"], "slots: Input should be greater than 0"),
        (["--grpc-port", "70000"], "grpc_port: Input should be less than or equal to 65535"),
        (["--provider", "tpu"], "provider: Input should be 'auto', 'cuda' or 'cpu'"),
        (["--config", "missing.toml"], "the configuration file cannot be read: .*missing.toml"),
    ],
)
def test_wrong_values_are_told_in_one_line(flags: list[str], expected: str) -> None:
    """What is wrong is said with the setting's name, in one line."""
    with pytest.raises(SettingsError, match=expected) as raised:
        settings(flags)
    assert "\n" not in str(raised.value)


def test_broken_file(elsewhere: Path) -> None:
    """A file that is no TOML is said to be unreadable."""
    (elsewhere / "rapport.toml").write_text("slots = ")
    with pytest.raises(SettingsError, match="the configuration file cannot be read"):
        settings([])


def test_a_file_of_keys_is_keys() -> None:
    """With a file of keys, callers are asked for one, so that any address may be served."""
    read = settings(["--grpc-host", "0.0.0.0", "--api-keys-file", "keys.toml"])  # noqa: S104
    assert read.asks_for_key
    assert not settings([]).asks_for_key


def test_limits_by_default(elsewhere: Path) -> None:
    """What keys may use by default are settings like others; 0 is no limit."""
    (elsewhere / "rapport.toml").write_text("requests_per_minute = 60\n")
    read = settings(["--user-concurrent", "2"])
    assert KeyLimits.of(read) == KeyLimits(requests_per_minute=60, user_concurrent=2)


def test_salt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users are hashed with a salt that is another at each start, unless one is given."""
    salts = {settings([]).user_hash_salt.get_secret_value() for _ in range(2)}
    assert len(salts) == 2
    monkeypatch.setenv("RAPPORT_USER_HASH_SALT", "given")
    read = settings([])
    assert read.user_hash_salt.get_secret_value() == "given"
    assert "given" not in f"{read!r}"


def test_ipv6_address() -> None:
    """An IPv6 host stands in brackets before the port."""
    assert settings(["--grpc-host", "::1"]).address == "[::1]"
