"""Settings of a process: flags over RAPPORT_* variables over a TOML file over defaults.

All processes read the same variables and the same file, each what it knows.
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, NonNegativeFloat, PositiveFloat, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

DEFAULT_FILE = Path("rapport.toml")

Port = Annotated[int, Field(ge=0, le=65535)]


class SettingsError(Exception):
    """Settings that cannot be used; the text says which and why."""


class TomlFile(TomlConfigSettingsSource):
    """The TOML file that the sources before this one name, or ./rapport.toml."""

    def __call__(self) -> dict[str, Any]:
        named = self.current_state.get("config")
        if named is None and not DEFAULT_FILE.exists():
            return {}
        return self._read_file(Path(named or DEFAULT_FILE).expanduser())


class Settings(BaseSettings):
    """What every process knows."""

    model_config = SettingsConfigDict(
        env_prefix="RAPPORT_",
        env_ignore_empty=True,
        extra="ignore",  # the file has settings of other processes, too
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
    api_keys: SecretStr = SecretStr("")
    """keys that callers may use, separated by commas; none: open, on a loopback address only"""
    shutdown_grace: NonNegativeFloat = 10
    """seconds that running answers get to finish at shutdown"""
    reader_timeout: PositiveFloat = 60
    """seconds after which an answer that its caller does not read at all is given up"""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """how much to log"""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that callers may use."""
        listed = self.api_keys.get_secret_value().split(",")
        return tuple(key.strip() for key in listed if key.strip())

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
        SettingsError: some are wrong.
        SystemExit: a flag is unknown, or help was asked for.
    """
    try:
        return CliApp.run(kind, cli_args=list(arguments))
    except ValidationError as error:
        raise SettingsError("; ".join(map(told, error.errors()))) from None
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"the configuration file cannot be read: {error}") from None


def told(error: Any) -> str:
    """One line for an error of pydantic."""
    name = ".".join(map(str, error["loc"]))
    text = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {text}" if name else text


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
