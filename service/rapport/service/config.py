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
from pydantic_settings import CliSuppress, SettingsConfigDict

from rapport.common.addresses import bracketed
from rapport.common.settings import Port, Settings, check_bind, split_list
from rapport.common.tls import TlsFiles, server_files
from rapport.service.engine.runtime.faults import parse_faults
from rapport.service.keys.limits import KeyLimits


def _random_salt() -> SecretStr:
    return SecretStr(secrets.token_hex(16))


class ServiceSettings(Settings, KeyLimits):
    """Serves chat completions over gRPC."""

    model_config = SettingsConfigDict(cli_prog_name="rapport service")

    model: str = "smollm2-135m-instruct"
    """name of the model that `rapport serve` downloads and converts, or hf:owner/name of the hub"""
    model_aliases: str = ""
    """other names that requests may use for the model, separated by commas; they are listed, too"""
    model_folder: Path | None = None
    """folder with the model to serve"""
    prefill_folder: Path | None = None
    """folder with the same model in float32, used to compute prompts"""
    provider: Literal["auto", "cuda", "cpu"] = "auto"
    """execution provider that decodes"""
    device_id: NonNegativeInt = 0
    """GPU to run on, counted from 0 among those that CUDA_VISIBLE_DEVICES leaves"""
    gpu_memory: Annotated[float, Field(gt=0, le=1)] = 0.9
    """share of the GPU's memory to use"""
    slots: PositiveInt = 16
    """sequences that are decoded at once"""
    max_waiting: NonNegativeInt = 256
    """requests that may wait for a slot; 0: only as many as there are free slots"""
    max_waiting_tokens: NonNegativeInt = 0
    """total prompt tokens of the requests that may wait for a slot; 0: no limit"""
    max_ttft: NonNegativeFloat = 300
    """refuse requests whose first token is expected later than this many seconds; 0: no limit"""
    prefix_isolation: Literal["none", "key"] = "key"
    """which callers share cached prompt prefixes; none: all of them, key: those of an API key"""
    kv_budget: Annotated[ByteSize, Field(gt=0)] = ByteSize(2 << 30)
    """memory for the keys and values of running sequences, such as 2GiB"""
    prefix_cache: ByteSize = ByteSize(512 << 20)
    """memory for cached prompt prefixes; 0: no cache"""
    itl_target: PositiveFloat = 0.05
    """target for the seconds between tokens while prompts of others are computed"""
    drafts: bool = True
    """whether to use speculative decoding where it is faster"""
    threads: NonNegativeInt = 0
    """threads for computation; 0: one per core"""
    deterministic: bool = False
    """give the same bytes for the same request, regardless of batch composition and cache"""
    engine_stall_timeout: NonNegativeFloat = 60
    """seconds after which a step counts as hung and the process exits; 0: no limit"""
    default_max_tokens: PositiveInt = 2048
    """max_tokens of requests that set none"""
    max_request_tokens: NonNegativeInt = 262_144
    """limit of n times max_tokens, the tokens of all choices of a request; 0: no limit"""
    stop_in_output: Literal["include", "exclude"] = "include"
    """whether answers include the stop sequence that ended them"""
    generation_defaults: Literal["api", "model"] = "api"
    """sampling values for requests that set none: the API's, or what the model's files advise"""
    metrics_port: Port = 9464
    """port of the service's metrics; 0: any free port"""
    channelz: bool = False
    """serve gRPC's channelz, which lists connections and calls"""
    max_message_bytes: Annotated[ByteSize, Field(gt=0, lt=1 << 31)] = ByteSize(4 << 20)
    """maximum size of a request message, such as 4MiB"""

    user_hash_salt: CliSuppress[SecretStr] = Field(default_factory=_random_salt)
    """salt for the hash of `user` in logs and limits; random at each start by default"""
    grpc_tls_cert: Path | None = None
    """certificate chain (PEM) for gRPC over TLS; reloaded when it changes"""
    grpc_tls_key: Path | None = None
    """private key (PEM) of grpc_tls_cert"""
    grpc_client_ca: Path | None = None
    """CA certificates (PEM); gRPC clients must have a certificate of one of them"""
    faults: str = ""
    """for tests: faults to inject, such as decode:raise@3; requires inject_faults"""
    inject_faults: bool = False
    """for tests: whether faults may be injected"""

    @property
    def address(self) -> str:
        """The host as it is written before the port: an IPv6 address in brackets."""
        return bracketed(self.grpc_host)

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names that requests may use for the model."""
        return split_list(self.model_aliases)

    @property
    def grpc_tls(self) -> TlsFiles | None:
        """The certificate files, if TLS is configured."""
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
