"""Settings of replicas on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator
from pydantic_settings import SettingsConfigDict

from rapport.cli.serve import ServeSettings


class ReplicaSettings(ServeSettings):
    """Services, gateways and Envoy on this machine, with all settings of `rapport serve`.

    `http_port` and `grpc_port` are those of Envoy.
    """

    model_config = SettingsConfigDict(cli_prog_name="python -m tools.replicas")

    replicas: PositiveInt = 3
    """services"""
    gateways: PositiveInt = 2
    """gateways"""
    folder: Path = Path(".build/replicas")
    """folder of their state, logs and ports"""
    balance_factor: Annotated[int, Field(ge=100)] = 150
    """percent of the mean load up to which a replica gets the requests of its keys"""
    drain_delay: NonNegativeFloat = 3
    """seconds from failing health checks at shutdown to refusing requests"""

    @model_validator(mode="after")
    def _envoy_is_reached_plainly(self) -> Self:
        if self.grpc_tls or self.http_tls or self.has_own_upstream:
            raise ValueError("the parts meet on this machine, without TLS: leave its settings out")
        return self
