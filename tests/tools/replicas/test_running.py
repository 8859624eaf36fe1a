"""What is run for the replicas, and how they are restarted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rapport.cli.supervisor import Part
from tools.replicas import running
from tools.replicas.settings import ReplicaSettings
from tools.replicas.state import Ports, State


class Fake(Part):
    """Is started again as soon as it has been stopped and may exit."""

    def __init__(self, name: str, done: list[str]) -> None:
        super().__init__(name, (), {})
        self.done = done
        self.process: Any = object()

    def stop(self) -> None:
        self.done.append(f"{self.name} stops")

    def let_exit(self) -> None:
        self.is_ready = False


def test_one_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next is stopped only when the one before is another process that serves."""
    monkeypatch.setattr(running, "SETTLE_S", 0)
    done: list[str] = []
    parts = [Fake("a", done), Fake("b", done)]
    restart = running.rolling_restart(parts)
    next(restart)
    parts[0].process = object()
    next(restart)
    assert done == ["a stops"]
    parts[0].is_ready = True
    next(restart)
    assert done == ["a stops", "b stops"]
    parts[1].process, parts[1].is_ready = object(), True
    assert list(restart) == []


def test_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Services come before gateways and those before Envoy; each has its own ports and log."""
    monkeypatch.setattr("tools.replicas.envoy.program", lambda: "envoy")
    settings = ReplicaSettings(replicas=2, gateways=1, model_folder=tmp_path)
    ports = Ports.choose(8080, 50051, settings.replicas, settings.gateways)
    parts = running.parts_of(settings, tmp_path, ports, State(tmp_path))
    assert [part.name for part in parts] == ["service-1", "service-2", "gateway-1", "envoy"]
    for part, port in zip(parts, ports.services, strict=False):
        assert part._environment["RAPPORT_GRPC_PORT"] == str(port)
    assert parts[2]._environment["RAPPORT_UPSTREAM"] == "127.0.0.1:50051"
    assert len({part._log for part in parts}) == len(parts)


def test_settings_of_tls() -> None:
    """They are refused: Envoy would not speak it to the parts."""
    with pytest.raises(ValidationError, match="without TLS"):
        ReplicaSettings(grpc_tls_cert=Path("a"), grpc_tls_key=Path("b"))
