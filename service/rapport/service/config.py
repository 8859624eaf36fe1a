"""The service's settings."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    ByteSize,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import SettingsConfigDict

from rapport.common.settings import Port, Settings, check_bind
from rapport.common.tls import TlsFiles, server_files
from rapport.service.engine.runtime.faults import parse_faults
from rapport.service.keys.limits import KeyLimits


def random_salt() -> SecretStr:
    return SecretStr(secrets.token_hex(16))


class ServiceSettings(Settings, KeyLimits):
    """Serves chat completions over gRPC."""

    model_config = SettingsConfigDict(cli_prog_name="rapport service")

    model: str = "smollm2-135m-instruct"
    """model that `rapport serve` prepares"""
    model_folder: Path | None = None
    """folder of the model to serve"""
    prefill_folder: Path | None = None
    """folder of the same model with float32 layers, to compute prompts with"""
    provider: Literal["auto", "cuda", "cpu"] = "auto"
    """where to decode"""
    slots: PositiveInt = 16
    """completions that are decoded together"""
    max_waiting: NonNegativeInt = 256
    """requests that may wait for a slot; 0: only as many as there are slots free"""
    max_waiting_tokens: NonNegativeInt = 0
    """tokens of prompts that may wait; 0: no limit"""
    max_ttft: NonNegativeFloat = 300
    """seconds to the first token beyond which requests are refused; 0: no limit"""
    prefix_isolation: Literal["none", "key"] = "key"
    """whether callers with different API keys share no computed prefix"""
    kv_budget: Annotated[ByteSize, Field(gt=0)] = ByteSize(2 << 30)
    """memory for keys and values, such as 2GiB"""
    prefix_cache: ByteSize = ByteSize(512 << 20)
    """memory for keys and values of prompts, for others that begin alike; 0 keeps none"""
    itl_target: PositiveFloat = 0.05
    """seconds between tokens that prompts of others may not stretch"""
    drafts: bool = True
    """whether to guess at tokens and check several at once where that is faster"""
    threads: NonNegativeInt = 0
    """threads to compute with; 0: one per core"""
    deterministic: bool = False
    """the same request gives the same bytes, alone, in company and from the cache"""
    engine_stall_timeout: NonNegativeFloat = 60
    """seconds that one step may take before the engine is given up and the process ends; 0: any"""
    default_max_tokens: PositiveInt = 2048
    """max_tokens of requests without one"""
    max_request_tokens: NonNegativeInt = 262_144
    """tokens that the choices of a request may have together, n times max_tokens; 0: no limit"""
    stop_in_output: Literal["include", "exclude"] = "include"
    """whether answers end with the stop text that ended them"""
    metrics_port: Port = 9464
    """port to serve the service's metrics on; 0 picks one"""
    channelz: bool = False
    """tell of connections and calls over gRPC's channelz service"""
    max_message_bytes: Annotated[ByteSize, Field(gt=0, lt=1 << 31)] = ByteSize(4 << 20)
    """size that a request may have, such as 4MiB"""

    user_hash_salt: SecretStr = Field(default_factory=random_salt)
    """what `user` is hashed with for logs and limits; a random one for each start by default"""
    grpc_tls_cert: Path | None = None
    """certificate chain (PEM) to serve gRPC over TLS with; read again when it changes"""
    grpc_tls_key: Path | None = None
    """private key (PEM) of grpc_tls_cert"""
    grpc_client_ca: Path | None = None
    """CA certificates (PEM): callers over gRPC must show a certificate of one of them"""
    grpc_socket: Path | None = None
    """Unix socket to serve gRPC on as well, without TLS, to programs that may open it"""
    faults: str = ""
    """for tests: what fails on purpose, such as decode:raise@3; needs inject_faults"""
    inject_faults: bool = False
    """for tests: whether faults may be set"""

    @property
    def address(self) -> str:
        """The host as it stands before the port."""
        return f"[{self.grpc_host}]" if ":" in self.grpc_host else self.grpc_host

    @property
    def grpc_tls(self) -> TlsFiles | None:
        """The files of TLS, if it is wanted."""
        return server_files("grpc", self.grpc_tls_cert, self.grpc_tls_key, self.grpc_client_ca)

    @field_validator("faults")
    @classmethod
    def _faults_are_known(cls, faults: str) -> str:
        parse_faults(faults)
        return faults

    @model_validator(mode="after")
    def _faults_are_meant(self) -> Self:
        if self.faults and not self.inject_faults:
            raise ValueError("faults are for tests, and need inject_faults")
        return self

    @model_validator(mode="after")
    def _grpc_is_guarded(self) -> Self:
        _ = self.grpc_tls
        guarded = bool(self.asks_for_key or self.grpc_client_ca or self.allow_public_bind)
        check_bind("grpc_host", self.grpc_host, guarded=guarded)
        return self
