"""The service's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    ByteSize,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)
from pydantic_settings import SettingsConfigDict

from rapport_settings.base import Settings, is_loopback
from service.engine.faults import parse_faults


class ServiceSettings(Settings):
    """Serves chat completions over gRPC."""

    model_config = SettingsConfigDict(cli_prog_name="rapport service")

    model: str = "smollm2-135m-instruct"
    """model that `rapport serve` prepares"""
    model_folder: Path | None = None
    """folder of the model to serve"""
    prefill_folder: Path | None = None
    """folder of the same model in float32, to compute prompts with"""
    provider: Literal["auto", "cuda", "cpu"] = "auto"
    """where to decode"""
    slots: PositiveInt = 16
    """completions that are decoded together"""
    max_waiting: NonNegativeInt = 256
    """requests that may wait for a slot"""
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
    default_max_tokens: PositiveInt = 2048
    """max_tokens of requests without one"""
    stop_in_output: Literal["include", "exclude"] = "include"
    """whether answers end with the stop text that ended them"""
    max_message_bytes: Annotated[ByteSize, Field(gt=0, lt=1 << 31)] = ByteSize(16 << 20)
    """size that a request may have, such as 16MiB"""
    faults: str = ""
    """for tests: what fails on purpose, such as decode:raise@3; needs inject_faults"""
    inject_faults: bool = False
    """for tests: whether faults may be set"""

    @property
    def address(self) -> str:
        """The host as it stands before the port."""
        return f"[{self.grpc_host}]" if ":" in self.grpc_host else self.grpc_host

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
    def _open_only_to_this_machine(self) -> Self:
        if not (self.keys or is_loopback(self.grpc_host)):
            raise ValueError(
                f"grpc_host {self.grpc_host} is reachable from elsewhere: set api_keys, "
                "or use a loopback address"
            )
        return self
