"""The process that runs replicas: it starts them, restarts them and ends them."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rapport.cli.serve import KILL_DELAY_S, catch_signals, environment, prepare
from rapport.cli.supervisor import Part, supervise
from rapport.common.process import python_module
from tools.replicas.envoy import Envoy, render, validate
from tools.replicas.settings import ReplicaSettings
from tools.replicas.state import Ports, State

logger = logging.getLogger("rapport.replicas")

HOST = "127.0.0.1"
# After a part serves again, until Envoy, which asks each second, has seen it.
SETTLE_S = 3.0


def run(settings: ReplicaSettings, state: State) -> int:
    """Runs everything until a signal. Returns the exit status.

    Raises:
        EnvoyError: there is no Envoy.
        ModelError, ProviderError: the model cannot be prepared.
        RunningError: there are replicas already.
    """
    with state.held(os.getpid()):
        folder = settings.model_folder or prepare(settings)
        ports = Ports.choose(
            settings.http_port, settings.grpc_port, settings.replicas, settings.gateways
        )
        state.config.write_text(configuration(settings, ports))
        validate(state.config)
        parts = parts_of(settings, folder, ports, state)
        state.write_ports(ports)
        patience = settings.drain_delay + settings.shutdown_grace + KILL_DELAY_S
        watch = Watch(parts, state)
        signal.signal(signal.SIGHUP, watch.request_restart)
        return supervise(parts, catch_signals(parts), patience, watch.look)


def configuration(settings: ReplicaSettings, ports: Ports) -> str:
    """Envoy's."""
    return render(
        host=HOST,
        rest_port=ports.rest,
        grpc_port=ports.grpc,
        admin_host=HOST,
        admin_port=ports.admin,
        gateways=[(HOST, port) for port in ports.gateways],
        services=[(HOST, port) for port in ports.services],
        balance_factor=settings.balance_factor,
    )


def parts_of(settings: ReplicaSettings, folder: Path, ports: Ports, state: State) -> list[Part]:
    """Services, gateways and Envoy, in the order in which they may end."""
    cores = os.cpu_count() or 1
    shared = environment(settings, folder) | {
        "RAPPORT_GRPC_HOST": HOST,
        "RAPPORT_HTTP_HOST": HOST,
        "RAPPORT_THREADS": str(settings.threads or max(1, cores // settings.replicas)),
        "RAPPORT_UPSTREAM": f"{HOST}:{ports.grpc}",
    }

    def part(kind: str, number: int, **variables: int) -> Part:
        own = {f"RAPPORT_{name.upper()}": str(value) for name, value in variables.items()}
        name = f"{kind}-{number}"
        log = state.logs / f"{name}.log"
        command = python_module(f"rapport.{kind}")
        return Part(name, command, shared | own, settings.part_stall_timeout, log)

    services = zip(ports.services, ports.service_metrics, strict=True)
    gateways = zip(ports.gateways, ports.gateway_metrics, strict=True)
    return [
        *(part("service", number, grpc_port=port, metrics_port=metrics)
          for number, (port, metrics) in enumerate(services, 1)),
        *(part("gateway", number, http_port=port, gateway_metrics_port=metrics)
          for number, (port, metrics) in enumerate(gateways, 1)),
        Envoy(state.config, shared, state.logs / "envoy.log"),
    ]  # fmt: skip


class Watch:
    """Notes which processes run, and restarts the parts in turn when that is asked for."""

    def __init__(self, parts: Sequence[Part], state: State) -> None:
        self._parts = parts
        self._state = state
        self._noted: list[object] = []
        self._restart: Iterator[None] = iter(())

    def request_restart(self, _number: int, _frame: object) -> None:
        self._restart = rolling_restart([part for part in self._parts if part.name != "envoy"])

    def look(self) -> None:
        """For calls at each poll of the supervisor."""
        running = [part.process for part in self._parts]
        if running != self._noted:
            self._noted = [*running]
            self._state.write_parts(self._parts)
        if next(self._restart, self) is self:
            self._state.restarting.unlink(missing_ok=True)


def rolling_restart(parts: Sequence[Part]) -> Iterator[None]:
    """Restarts one part after the other, each when the one before serves again."""
    for part in parts:
        logger.info("the %s is restarted", part.name)
        before = part.process
        part.stop()
        part.let_exit()
        while part.process is before or not part.is_ready:
            yield
        settled_at = time.monotonic() + SETTLE_S
        while time.monotonic() < settled_at:
            yield
