"""`rapport serve`: the model is prepared, then service and gateway run as two processes."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal, Self

from pydantic import ByteSize, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from gateway.config import GatewaySettings
from models.errors import ModelError
from models.importer import ensure
from models.progress import Progress, logged, shown
from rapport_settings.base import SettingsError, load
from rapport_telemetry.logs import set_up
from service.config import ServiceSettings
from service.engine.providers import ProviderError, choose_provider

logger = logging.getLogger("rapport.serve")

PARTS = ("service", "gateway")
# Seconds beyond the grace after which a part that should have ended is ended.
PATIENCE = 10.0
PR_SET_PDEATHSIG = 1


class ServeSettings(GatewaySettings, ServiceSettings):
    """Prepares the model, then serves gRPC and REST: all settings of service and gateway."""

    model_config = SettingsConfigDict(cli_prog_name="rapport serve")

    float_prefill: ByteSize = ByteSize(0)
    """memory that float32 weights to compute prompts with may take; 0: none"""
    kv_type: Literal["float", "int8"] = "float"
    """how keys and values are kept; int8, on the CPU, takes a quarter of the memory"""

    @model_validator(mode="after")
    def _prefill_into_floats(self) -> Self:
        if self.kv_type == "int8" and self.float_prefill:
            raise ValueError("float_prefill fills float keys and values: leave one of the two out")
        return self

    @model_validator(mode="after")
    def _meet_at_a_known_port(self) -> Self:
        if self.grpc_port == 0:
            raise ValueError("grpc_port 0 is for a service alone: a gateway could not find it")
        return self


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until told to stop. Returns the exit status."""
    try:
        settings = load(ServeSettings, sys.argv[1:] if arguments is None else arguments)
    except SettingsError as error:
        sys.stderr.write(f"rapport serve: {error}\n")
        return 2
    set_up(settings)
    try:
        folder = settings.model_folder or prepare(settings)
        prefill_folder = settings.prefill_folder or prepare_prefill(settings)
    except (ModelError, ProviderError) as error:
        logger.error("%s", error)  # noqa: TRY400 - the line is for users
        return 1
    except KeyboardInterrupt:
        return 130
    variables = environment(settings, folder, prefill_folder)
    return supervise(variables, settings.shutdown_grace)


def prepare(settings: ServeSettings) -> Path:
    """The folder of the model, in the precision that suits the provider."""
    provider = choose_provider(settings.provider)
    precision: str = provider.precision
    if settings.kv_type == "int8":
        if provider.name != "cpu":
            raise ProviderError("kv_type int8 runs on the CPU only: set provider to cpu")
        precision = "int4-kv8"
    with progress_of(settings) as progress:
        return ensure(settings.model, precision, progress)


def prepare_prefill(settings: ServeSettings) -> Path | None:
    """The folder of the model in float32, if its weights may take that much memory."""
    if settings.float_prefill == 0:
        return None
    with progress_of(settings) as progress:
        folder = ensure(settings.model, "float32", progress)
    size = ByteSize((folder / "model.onnx.data").stat().st_size)
    if size <= settings.float_prefill:
        return folder
    logger.warning("no float32 prefill: its weights take %s", size.human_readable())
    return None


def progress_of(settings: ServeSettings) -> AbstractContextManager[Progress]:
    return nullcontext(logged()) if settings.log_format == "json" else shown()


def environment(
    settings: ServeSettings, folder: Path, prefill_folder: Path | None = None
) -> dict[str, str]:
    """The environment in which the parts find these settings."""
    folders = {"model_folder": folder, "prefill_folder": prefill_folder}
    values = settings.model_dump(exclude_none=True) | folders
    values = {name: value for name, value in values.items() if value is not None}
    return os.environ | {f"RAPPORT_{name.upper()}": text(value) for name, value in values.items()}


def text(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def supervise(variables: dict[str, str], grace: float) -> int:
    """Runs the parts until a signal comes or one of them ends."""
    told: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: told.append(number))
    parts = {part: start(part, variables) for part in PARTS}
    while not told and all(process.poll() is None for process in parts.values()):
        time.sleep(0.05)
    ended = [part for part, process in parts.items() if process.poll() is not None]
    stop(parts, told, grace)
    if told:
        return max(abs(int(process.returncode)) for process in parts.values())
    logger.error("the %s ended, so this ends too", ended[0])
    return 1


def start(part: str, variables: dict[str, str]) -> subprocess.Popen[bytes]:
    # In a session of its own: Ctrl-C reaches only this process, which passes it on once.
    return subprocess.Popen(  # noqa: S603 - the part is one of two
        [sys.executable, "-m", part],
        env=variables,
        start_new_session=True,
        preexec_fn=end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - this process has one thread
    )


def end_with_parent() -> None:
    """Has the kernel tell a part to stop should this process be killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def stop(parts: dict[str, subprocess.Popen[bytes]], told: list[int], grace: float) -> None:
    """Tells the parts to stop and waits; a second signal to this process ends them at once."""
    signals = len(told)
    tell(parts, signal.SIGTERM)
    deadline = time.monotonic() + grace + PATIENCE
    while any(process.poll() is None for process in parts.values()):
        if len(told) > max(signals, 1) or time.monotonic() > deadline:
            tell(parts, signal.SIGKILL)
        time.sleep(0.02)


def tell(parts: dict[str, subprocess.Popen[bytes]], number: signal.Signals) -> None:
    for process in parts.values():
        if process.poll() is None:
            process.send_signal(number)


if __name__ == "__main__":
    sys.exit(main())
