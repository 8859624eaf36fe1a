"""Where the model runs: on a GPU with CUDA if possible, on the CPU otherwise."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

from rapport.service.engine.runtime.cuda import cuda_obstacles

log = logging.getLogger(__name__)

ProviderName = Literal["cpu", "cuda"]

CPU_PROVIDER, CUDA_PROVIDER = "CPUExecutionProvider", "CUDAExecutionProvider"
CUDA_OPTIONS = {
    "arena_extend_strategy": "kSameAsRequested",
    # Flash and memory-efficient attention. cuDNN's would keep a plan for each length, without a
    # bound.
    "sdpa_kernel": "3",
}


class ProviderError(Exception):
    """The requested provider cannot run here."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider, by its name, and the device that it runs on."""

    name: ProviderName
    device_id: int = 0

    @property
    def device(self) -> tuple[str, int]:
        """The device as ONNX Runtime names it: its kind and its number."""
        return self.name, self.device_id

    @property
    def session_providers(self) -> list[tuple[str, dict[str, str]]]:
        """The providers to request from ONNX Runtime, in order of preference."""
        fallback: list[tuple[str, dict[str, str]]] = [(CPU_PROVIDER, {})]
        options = {"device_id": str(self.device_id), **CUDA_OPTIONS}
        return [(CUDA_PROVIDER, options), *fallback] if self.name == "cuda" else fallback


CPU = Provider("cpu")
CUDA = Provider("cuda")


def choose_provider(wanted: Literal["auto", "cuda", "cpu"], device_id: int = 0) -> Provider:
    """The provider to run on. `auto` falls back to the CPU with one line in the log.

    Raises:
        ProviderError: `cuda` was requested and cannot run here; the text says why. If there are
            several reasons, each has a line in the log.
    """
    if wanted == "cpu":
        return CPU
    obstacles = cuda_obstacles(device_id)
    if not obstacles:
        return Provider("cuda", device_id)
    if wanted == "cuda":
        raise _refusal(obstacles)
    log.info("running on the CPU: %s", "; ".join(obstacles))
    return CPU


def _refusal(obstacles: list[str]) -> ProviderError:
    if len(obstacles) == 1:
        return ProviderError(f"provider cuda cannot run here: {obstacles[0]}")
    for obstacle in obstacles:
        log.error("provider cuda: %s", obstacle)
    return ProviderError(f"provider cuda cannot run here, for {len(obstacles)} reasons")
