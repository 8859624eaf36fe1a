"""Replicas behind Envoy on this machine: `python -m tools.replicas up|down|restart [SETTING…]`.

`up` starts services, gateways and Envoy, and returns when all of them serve; `restart` restarts one
after the other; `down` drains and ends them. `up --help` lists the settings.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rapport.cli.serve import KILL_DELAY_S
from rapport.common.settings import SettingsError, load
from rapport.common.telemetry.logs import set_up
from rapport.models.errors import ModelError
from rapport.service.engine.runtime.providers import ProviderError
from tools.replicas.envoy import EnvoyError, healthy, program
from tools.replicas.running import run
from tools.replicas.settings import ReplicaSettings
from tools.replicas.state import NotRunningError, RunningError, State

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 0.1
# The first start fetches and imports the model.
START_LIMIT_S = 900.0
LOG_CHARS = 2000


class ReplicasError(Exception):
    """The text says what went wrong."""


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status."""
    command, *flags = arguments or ["help"]
    if command not in COMMANDS:
        print(__doc__)
        return 2
    try:
        settings = load(ReplicaSettings, flags)
        return COMMANDS[command](settings, flags)
    except (
        EnvoyError,
        ModelError,
        NotRunningError,
        ProviderError,
        ReplicasError,
        RunningError,
        SettingsError,
    ) as error:
        print(f"replicas: {error}", file=sys.stderr)
        return 1


def up(settings: ReplicaSettings, flags: Sequence[str]) -> int:
    """Starts everything in the background and waits until all of it serves."""
    program()
    state = State(settings.folder)
    state.logs.mkdir(parents=True, exist_ok=True)
    log = state.logs / "replicas.log"
    paths = [str(ROOT), os.environ.get("PYTHONPATH")]
    with log.open("wb") as output:
        runner = subprocess.Popen(
            [sys.executable, "-m", "tools.replicas", "run", *flags],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def serves() -> bool:
        if runner.poll() is not None:
            raise ReplicasError(f"they could not start:\n{log.read_text()[-LOG_CHARS:]}")
        ports = state.ports()
        seen = healthy(ports.admin) if ports else {}
        wanted = {"gateways": settings.gateways} | dict.fromkeys(
            ("keyed", "keyless"), settings.replicas
        )
        return all(seen.get(name) == count for name, count in wanted.items())

    try:
        wait(serves, START_LIMIT_S, "serve")
    except BaseException:
        runner.terminate()
        raise
    show(state)
    return 0


def show(state: State) -> None:
    ports = state.ports()
    assert ports is not None  # noqa: S101 - they serve
    print(f"REST  http://127.0.0.1:{ports.rest}")
    print(f"gRPC  127.0.0.1:{ports.grpc}")
    print(f"Envoy http://127.0.0.1:{ports.admin}")
    urls = " ".join(f"--url http://127.0.0.1:{port}/metrics" for port in ports.service_metrics)
    print(f"rapport top {urls}")
    print(f"logs  {state.logs}")


def down(settings: ReplicaSettings, _flags: Sequence[str]) -> int:
    """Drains and ends everything."""
    state = State(settings.folder)
    os.kill(state.pid(), signal.SIGTERM)
    limit = settings.drain_delay + settings.shutdown_grace + 2 * KILL_DELAY_S
    wait(lambda: not is_running(state), limit, "end")
    return 0


def restart(settings: ReplicaSettings, _flags: Sequence[str]) -> int:
    """Restarts services and gateways, one after the other."""
    state = State(settings.folder)
    pid = state.pid()
    state.restarting.touch()
    os.kill(pid, signal.SIGHUP)
    wait(lambda: not state.restarting.exists(), START_LIMIT_S, "restart")
    return 0


def run_here(settings: ReplicaSettings, _flags: Sequence[str]) -> int:
    """What `up` starts in the background."""
    set_up(settings)
    return run(settings, State(settings.folder))


def is_running(state: State) -> bool:
    try:
        state.pid()
    except NotRunningError:
        return False
    return True


def wait(condition: Callable[[], bool], limit_s: float, what: str) -> None:
    """Raises ReplicasError if the condition is not met in time."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise ReplicasError(f"they did not {what} in {limit_s:g} s")
        time.sleep(POLL_S)


COMMANDS: dict[str, Callable[[ReplicaSettings, Sequence[str]], int]] = {
    "up": up,
    "down": down,
    "restart": restart,
    "run": run_here,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
