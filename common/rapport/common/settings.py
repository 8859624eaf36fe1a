"""Settings of a process: flags over RAPPORT_* variables over a TOML file over defaults.

All processes read the same variables and the same file, each what it knows.
"""

from __future__ import annotations

import difflib
import ipaddress
import logging
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    Field,
    HttpUrl,
    NonNegativeFloat,
    PositiveFloat,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliSuppress,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from rapport.common.setting_names import SETTING_NAMES

logger = logging.getLogger("rapport.settings")

DEFAULT_FILE = Path("rapport.toml")
# Linux has room for 107, and macOS for 103.
MAX_SOCKET_PATH_BYTES = 103

# Of a name to the setting that was perhaps meant, from 0 to 1.
MIN_LIKENESS = 0.8

Port = Annotated[int, Field(ge=0, le=65535)]


class SettingsError(Exception):
    """Settings that cannot be used; the text says which and why."""


class TomlFile(TomlConfigSettingsSource):
    """The TOML file that the sources before this one name, or ./rapport.toml."""

    def __call__(self) -> dict[str, Any]:
        named = self.current_state.get("config")
        if named is None and not DEFAULT_FILE.exists():
            return {}
        path = Path(named or DEFAULT_FILE).expanduser()
        values = self._read_file(path)
        if unknown := [name for name in values if name not in SETTING_NAMES]:
            raise SettingsError("; ".join(f"{path}: {_unknown(name)}" for name in unknown))
        return values


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, SETTING_NAMES, 1, MIN_LIKENESS)
    return f"{name!r} is no setting" + "".join(f" (did you mean {each!r}?)" for each in close)


class Settings(BaseSettings):
    """What every process knows."""

    model_config = SettingsConfigDict(
        env_prefix="RAPPORT_",
        env_ignore_empty=True,
        allow_inf_nan=False,
        extra="ignore",  # the file has settings of other processes, too; `TomlFile` knows them all
        frozen=True,
        hide_input_in_errors=True,  # a rejected key must not be shown
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        use_attribute_docstrings=True,
    )

    config: Path | None = None
    """TOML file with these settings; ./rapport.toml if there is one"""
    grpc_host: str = "127.0.0.1"
    """address of the gRPC service"""
    grpc_port: Port = 50051
    """port of the gRPC service; to serve on 0 picks one"""
    grpc_socket: Path | None = None
    """Unix socket of the gRPC service beside its port, without TLS; file permissions guard it"""
    api_keys: CliSuppress[SecretStr] = SecretStr("")
    """keys that callers may use, separated by commas; none: open, on a loopback address only"""
    api_keys_file: Path | None = None
    """file of keys that `rapport keys` writes, beside api_keys"""
    allow_public_bind: bool = False
    """serve addresses that others reach, without asking for keys or certificates"""
    read_timeout: PositiveFloat = 20
    """seconds for a request to come; over REST its body has one more for each KiB"""
    drain_delay: NonNegativeFloat = 0
    """seconds from failing health checks at shutdown to refusing requests"""
    metrics: bool = True
    """serve metrics for Prometheus, over HTTP on ports of their own"""
    metrics_host: str = "127.0.0.1"
    """address to serve metrics on; they are open, so leave others out"""
    shutdown_grace: NonNegativeFloat = 10
    """seconds that running answers get to finish at shutdown"""
    reader_timeout: PositiveFloat = 60
    """seconds after which an answer that its caller does not read at all is given up"""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """how much to log"""
    log_format: Literal["text", "json"] = "text"
    """lines to read, or a JSON object a line"""
    log_content: bool = False
    """log what is said as well: messages, answers, the texts of unexpected errors"""
    otel_endpoint: HttpUrl | None = None
    """URL of an OTLP receiver over HTTP to send traces to, such as http://127.0.0.1:4318"""
    otel_sample_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    """share of the traces that begin here to keep; without, what OTEL_* says, or all"""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that callers may use."""
        return split_list(self.api_keys.get_secret_value())

    @property
    def asks_for_key(self) -> bool:
        """Whether callers must show a key; nobody can while a file of keys is empty."""
        return bool(self.keys) or self.api_keys_file is not None

    @field_validator("grpc_socket")
    @classmethod
    def _fits_an_address(cls, path: Path | None) -> Path | None:
        if path is not None and len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
            raise ValueError(f"the path of a socket has at most {MAX_SOCKET_PATH_BYTES} bytes")
        return path

    @field_validator("api_keys")
    @classmethod
    def _names_a_key(cls, keys: SecretStr) -> SecretStr:
        if keys.get_secret_value() and not split_list(keys.get_secret_value()):
            raise ValueError("there is no key in it: leave it out to serve without keys")
        return keys

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags come as `init_settings`."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlFile(settings_cls)


S = TypeVar("S", bound=Settings)


def load(kind: type[S], arguments: Sequence[str]) -> S:
    """Reads settings with `arguments` as flags.

    Raises:
        SettingsError: some are wrong, or a secret is given as a flag.
        SystemExit: a flag is unknown, or help was asked for.
    """
    _refuse_secrets(kind, arguments)
    try:
        return CliApp.run(kind, cli_args=list(arguments))
    except ValidationError as error:
        raise SettingsError("; ".join(map(describe_error, error.errors()))) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"the configuration file cannot be read: {error}") from None


def _refuse_secrets(kind: type[Settings], arguments: Sequence[str]) -> None:
    """Raises SettingsError for a secret among the flags: every user can list them."""
    flags = {argument.partition("=")[0] for argument in arguments}
    for name, field in kind.model_fields.items():
        if field.annotation is SecretStr and f"--{name.replace('_', '-')}" in flags:
            raise SettingsError(
                f"{name}: others could read it in the list of processes: set "
                f"RAPPORT_{name.upper()}, or {name} in the configuration file"
            )


def describe_error(error: Any) -> str:
    """One line for an error of pydantic."""
    name = ".".join(map(str, error["loc"]))
    text = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {text}" if name else text


def check_bind(name: str, host: str, *, guarded: bool) -> None:
    """Raises ValueError for an address that others reach and that asks nothing of them."""
    if not (guarded or is_loopback(host)):
        raise ValueError(
            f"{name} {host} is reachable from elsewhere: set api_keys, api_keys_file, a CA of "
            "client certificates or allow_public_bind, or use a loopback address"
        )


def warn_of_plain_keys(settings: Settings, name: str, host: str) -> None:
    """Logs a line if others reach an address without TLS and show their keys there."""
    if settings.asks_for_key and not is_loopback(host):
        logger.warning("%s %s is served without TLS: API keys can be read on the way", name, host)


def split_list(text: str) -> tuple[str, ...]:
    """The items of a list whose separators are commas; empty ones are none."""
    return tuple(item.strip() for item in text.split(",") if item.strip())


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
