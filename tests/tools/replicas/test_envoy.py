"""The configuration of Envoy is whole for any number of replicas."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from rapport.v1 import chat_pb2
from tools.replicas import envoy

VARIABLES: dict[str, Any] = {
    "host": "127.0.0.1",
    "rest_port": 1,
    "grpc_port": 2,
    "admin_host": "127.0.0.1",
    "admin_port": 3,
    "gateways": [("127.0.0.1", 4)],
    "balance_factor": 150,
}


def clusters(*services: tuple[str, int]) -> dict[str, Any]:
    config = yaml.safe_load(envoy.render(**VARIABLES, services=services))
    return {each["name"]: each for each in config["static_resources"]["clusters"]}


def addresses(cluster: Any) -> list[tuple[str, int]]:
    (locality,) = cluster["load_assignment"]["endpoints"]
    sockets = [each["endpoint"]["address"]["socket_address"] for each in locality["lb_endpoints"]]
    return [(socket["address"], socket["port_value"]) for socket in sockets]


def test_services_stand_in_both_clusters() -> None:
    """Those with a key and those without go to the same replicas, which are asked by their name."""
    services = [("127.0.0.1", 5), ("replicas.example", 6)]
    found = clusters(*services)
    assert addresses(found["gateways"]) == [("127.0.0.1", 4)]
    for name, policy in (("keyless", "LEAST_REQUEST"), ("keyed", "MAGLEV")):
        assert addresses(found[name]) == services
        assert found[name]["lb_policy"] == policy
        (check,) = found[name]["health_checks"]
        asked = check["grpc_health_check"]["service_name"]
        assert asked == chat_pb2.DESCRIPTOR.services_by_name["ChatService"].full_name


def test_a_variable_that_is_missing() -> None:
    """It is an error, not an empty text in the configuration."""
    with pytest.raises(envoy.jinja2.UndefinedError, match="services"):
        envoy.render(**VARIABLES)


def test_envoy_that_does_not_answer() -> None:
    """Nothing is known of the replicas then."""
    assert envoy.healthy(1) == {}
