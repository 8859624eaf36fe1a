"""The chart renders to objects that Kubernetes and Envoy take, and that agree with the settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rapport.cli.serve import KILL_DELAY_S
from tools.replicas.envoy import validate

pytestmark = pytest.mark.kubernetes

ROOT = Path(__file__).parents[2]
EVERYTHING = {
    "keysSecret": "rapport-keys",
    "model": {"claim": "models"},
    "autoscaling": {"enabled": True},
    "serviceMonitor": {"enabled": True},
    "service": {"nodeSelector": {"disk": "fast"}, "env": {"RAPPORT_SLOTS": "8"}},
}
# Their schemas are not Kubernetes' own.
FOREIGN = {"ServiceMonitor"}


def objects(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    from tools.kubernetes import manifests  # noqa: PLC0415 - needs Helm, which is an extra

    for text in manifests(values).values():
        yield from filter(None, yaml.safe_load_all(text))


def values(name: str) -> dict[str, Any]:
    if name == "everything":
        return EVERYTHING
    text = (ROOT / f"deploy/kubernetes/chart/{name}").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@pytest.fixture(params=["values.yaml", "values-gpu.yaml", "everything"])
def rendered(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return list(objects(values(request.param)))


def of_kind(rendered: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in rendered if each["kind"] == kind}


def test_helm_finds_no_fault() -> None:
    """The chart passes Helm's own checks."""
    from helm_python.chart import lint  # noqa: PLC0415 - an extra

    report = lint(ROOT / "deploy/kubernetes/chart")
    assert report["errors"] == []


def test_kubernetes_takes_the_objects(rendered: list[dict[str, Any]]) -> None:
    """All of them are valid by Kubernetes' schemas, without unknown fields."""
    import kubernetes_validate  # noqa: PLC0415 - an extra

    kinds = {each["kind"] for each in rendered} - FOREIGN
    assert kinds >= {"ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service"}
    for each in rendered:
        if each["kind"] not in FOREIGN:
            kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


def test_plain_manifests_are_those_of_the_chart() -> None:
    """What is made from the chart and from Envoy's template is up to date."""
    from tools import kubernetes  # noqa: PLC0415 - needs Helm

    assert kubernetes.CONFIG.read_text(encoding="utf-8") == kubernetes.envoy_config()
    for name, overlay in kubernetes.OVERLAYS.items():
        given = values(overlay) if overlay else {}
        text = "".join(kubernetes.manifests(given).values())
        assert (kubernetes.MANIFESTS / name).read_text(encoding="utf-8") == kubernetes.HEAD + text


def test_envoy_takes_its_configuration(rendered: list[dict[str, Any]], tmp_path: Path) -> None:
    """What the ConfigMap has is valid, and names Services that are there."""
    config = of_kind(rendered, "ConfigMap")["rapport-envoy"]["data"]["envoy.yaml"]
    path = tmp_path / "envoy.yaml"
    path.write_text(config)
    validate(path)
    hosts = set(re.findall(r'address: "(rapport-\w+)"', config))
    assert hosts == {"rapport-service", "rapport-gateway"}
    assert hosts <= of_kind(rendered, "Service").keys()


def test_pods_get_the_time_to_drain(rendered: list[dict[str, Any]]) -> None:
    """Kubernetes waits longer than a part may take by its own settings."""
    for name, deployment in of_kind(rendered, "Deployment").items():
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        named = {each["name"]: each.get("value") for each in container.get("env", ())}
        drain = float(named.get("RAPPORT_DRAIN_DELAY", 5)) + float(
            named.get("RAPPORT_SHUTDOWN_GRACE", 60)
        )
        assert pod["terminationGracePeriodSeconds"] > drain + KILL_DELAY_S, name


def test_containers_are_confined(rendered: list[dict[str, Any]]) -> None:
    """None runs as root, writes to its root or may gain anything."""
    for deployment in of_kind(rendered, "Deployment").values():
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"]
            assert not security["allowPrivilegeEscalation"]


def test_autoscaler_asks_for_a_metric_that_is_there() -> None:
    """It scales by a metric of the service."""
    scaler = of_kind(list(objects(EVERYTHING)), "HorizontalPodAutoscaler")["rapport-service"]
    (metric,) = scaler["spec"]["metrics"]
    known = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
    assert f"`{metric['pods']['metric']['name']}` | gauge" in known
