"""Writes what in deploy/kubernetes is made from other files.

Envoy's configuration in the chart is rendered from its template, and Helm renders the plain
manifests from the chart. `--check` compares instead. Helm itself comes with the extra `kubernetes`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from helm_python.chart import Chart

from tools.replicas.envoy import render

KUBERNETES = Path(__file__).resolve().parents[1] / "deploy/kubernetes"
CHART = KUBERNETES / "chart"
CONFIG = CHART / "files/envoy.yaml"
MANIFESTS = KUBERNETES / "manifests"
# The plain manifests, and the file of values of each.
OVERLAYS: Mapping[str, str | None] = {"cpu.yaml": None, "gpu.yaml": "values-gpu.yaml"}
HEAD = "# Made from the chart by `make kubernetes`.\n"


def main() -> int:
    """Returns the exit status: 1 if a file is not what would be written."""
    checks = "--check" in sys.argv[1:]
    stale = [] if _is_written(CONFIG, envoy_config(), checks=checks) else [CONFIG]
    for name, values in OVERLAYS.items():
        text = HEAD + "".join(manifests(_values(values)).values())
        if not _is_written(MANIFESTS / name, text, checks=checks):
            stale.append(MANIFESTS / name)
    for path in stale:
        print(f"{path} is not what it is made from: run `make kubernetes`")
    return 1 if stale else 0


def envoy_config() -> str:
    """Envoy's configuration, with names that Helm fills in."""
    return render(
        host="0.0.0.0",  # noqa: S104 - in a pod
        rest_port=8080,
        grpc_port=50051,
        admin_host="127.0.0.1",
        admin_port=9901,
        gateways=[("{{ .Release.Name }}-gateway", 8080)],
        services=[("{{ .Release.Name }}-service", 50051)],
        balance_factor="{{ .Values.envoy.balanceFactor }}",
    )


def manifests(values: Mapping[str, Any]) -> dict[str, str]:
    """What Helm renders, by template. Raises HelmError if it cannot."""
    rendered = Chart.load(CHART).render(dict(values), name="rapport", namespace="rapport")
    texts = {name: text.strip().removeprefix("---") for name, text in sorted(rendered.items())}
    return {name: f"---\n{text.strip()}\n" for name, text in texts.items() if text.strip()}


def _values(name: str | None) -> dict[str, Any]:
    return yaml.safe_load((CHART / name).read_text(encoding="utf-8")) if name else {}


def _is_written(path: Path, text: str, *, checks: bool) -> bool:
    if not checks:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
