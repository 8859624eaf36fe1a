"""`rapport serve`: prepares the model, then runs service and gateway as two processes."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Literal, Self

from pydantic import ByteSize, NonNegativeFloat, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from rapport.cli.socket_folder import SOCKET_NAME, socket_folder
from rapport.cli.supervisor import STACKS_DELAY_S, Part, supervise
from rapport.common.process import python_module, show_stacks
from rapport.common.settings import SettingsError, load
from rapport.common.telemetry.logs import set_up
from rapport.common.tls import CertificateError
from rapport.gateway.config import GatewaySettings
from rapport.models.errors import ModelError
from rapport.models.importer import ensure, ensure_any
from rapport.models.onnx.precision import WeightChoice, cpu_precisions, cuda_precision
from rapport.models.progress import Progress, logged, shown
from rapport.service.config import ServiceSettings
from rapport.service.engine.runtime.providers import ProviderError, choose_provider

logger = logging.getLogger("rapport.serve")

PARTS = ("service", "gateway")
# How long after the grace period a part that has not exited is killed.
KILL_DELAY_S = 10.0


class ServeSettings(GatewaySettings, ServiceSettings):
    """Prepares the model, then serves gRPC and REST: all settings of service and gateway."""

    model_config = SettingsConfigDict(cli_prog_name="rapport serve")

    weights: WeightChoice = "auto"
    """weights, int4 or int8; auto: those that the CPU multiplies faster, and float16 on a GPU"""
    float_prefill: ByteSize = ByteSize(0)
    """memory that float32 weights to compute prompts with may take; 0: none"""
    kv_type: Literal["float", "int8"] = "float"
    """how keys and values are kept; int8, on the CPU, takes a quarter of the memory"""
    part_stall_timeout: NonNegativeFloat = 20
    """seconds after which a part whose event loop hangs is killed and started again; 0: no limit"""

    @model_validator(mode="after")
    def _prefill_into_floats(self) -> Self:
        for name in ("float_prefill", "prefill_folder"):
            if self.kv_type == "int8" and getattr(self, name):
                raise ValueError(f"{name} fills float keys and values: leave it or kv_type out")
        return self

    def reaches_upstream_privately(self) -> bool:
        """The parts meet at a socket, unless an upstream is set."""
        return self.upstream is None or super().reaches_upstream_privately()

    @property
    def chosen(self) -> dict[str, str]:
        """The settings of a model that are not the defaults."""
        defaults = {"weights": "auto", "kv_type": "float", "float_prefill": "0B"}
        values = {
            "weights": self.weights,
            "kv_type": self.kv_type,
            "float_prefill": self.float_prefill.human_readable(),
        }
        return {name: value for name, value in values.items() if value != defaults[name]}

    @model_validator(mode="after")
    def _serve_a_folder_as_it_is(self) -> Self:
        if self.model_folder is not None and self.chosen:
            names = " and ".join(self.chosen)
            raise ValueError(f"model_folder is served as it is: leave {names} out")
        return self

    @model_validator(mode="after")
    def _meet_at_a_known_port(self) -> Self:
        if self.grpc_port == 0:
            raise ValueError("grpc_port 0 is for a service alone: a gateway could not find it")
        return self


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until a signal. Returns the exit status."""
    try:
        settings = load(ServeSettings, sys.argv[1:] if arguments is None else arguments)
    except SettingsError as error:
        sys.stderr.write(f"rapport serve: {error}\n")
        return 2
    set_up(settings)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        return run(settings)
    except (CertificateError, ModelError, ProviderError) as error:
        logger.error("%s", error)  # noqa: TRY400 - the line is for users
        return 1
    except KeyboardInterrupt:
        return 0


def run(settings: ServeSettings) -> int:
    """Prepares the model and runs the parts. Returns the exit status.

    Raises:
        CertificateError: a part could not start with a certificate.
        ModelError, ProviderError: the model cannot be prepared.
        KeyboardInterrupt: a signal came while it was prepared.
    """
    check_certificates(settings)
    folder = settings.model_folder or prepare(settings)
    prefill_folder = settings.prefill_folder or prepare_prefill(settings)
    patience = settings.drain_delay + settings.shutdown_grace + KILL_DELAY_S
    with private_socket(settings) as socket:
        variables = environment(settings, folder, prefill_folder) | socket
        parts = [
            Part(name, python_module(f"rapport.{name}"), variables, settings.part_stall_timeout)
            for name in PARTS
        ]
        return supervise(parts, catch_signals(parts), patience)


def check_certificates(settings: ServeSettings) -> None:
    """Raises CertificateError for those that a part could not start with."""
    for files in (settings.grpc_tls, settings.http_tls, settings.upstream_files):
        if files is not None:
            files.read()


@contextmanager
def private_socket(settings: ServeSettings) -> Iterator[dict[str, str]]:
    """The settings by which the gateway reaches the service at a socket of this user.

    Whoever took the service's port while it restarts would be sent the keys of callers. And where
    gRPC is served over TLS, the gateway needs no certificate.
    """
    if settings.has_own_upstream or settings.grpc_socket:
        yield {}
        return
    with socket_folder() as folder:
        yield {"RAPPORT_GRPC_SOCKET": str(Path(folder, SOCKET_NAME))}


def prepare(settings: ServeSettings) -> Path:
    """The folder of the model, in the precision that suits the provider."""
    provider = choose_provider(settings.provider, settings.device_id)
    if provider.name == "cpu":
        precisions = cpu_precisions(settings.weights, int8_cache=settings.kv_type == "int8")
    else:
        check_none_is_for_the_cpu(settings)
        precisions = [cuda_precision(settings.weights)]
    with progress_of(settings) as progress:
        return ensure_any(settings.model, precisions, progress)


def check_none_is_for_the_cpu(settings: ServeSettings) -> None:
    """Raises ProviderError for a setting that no GPU can follow."""
    for name, value in settings.chosen.items():
        if name != "weights":
            raise ProviderError(f"{name} {value} runs on the CPU only: set provider to cpu")


def prepare_prefill(settings: ServeSettings) -> Path | None:
    """The folder of the model with float32 layers, if its weights may take that much memory."""
    if settings.float_prefill == 0:
        return None
    with progress_of(settings) as progress:
        folder = ensure(settings.model, "prefill", progress)
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


def catch_signals(parts: Sequence[Part]) -> list[int]:
    """The signals to stop, as they come. SIGUSR1 is passed on to the parts."""
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: signals.append(number))

    def pass_on(number: int, _: object) -> None:
        for part in parts:
            part.send_signal(number)
            time.sleep(STACKS_DELAY_S)

    signal.signal(signal.SIGUSR1, pass_on)
    return signals


def interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    show_stacks()
    sys.exit(main())
