"""The folder of replicas belongs to one process at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.replicas.state import NotRunningError, Ports, RunningError, State


def test_one_process_holds_the_folder(tmp_path: Path) -> None:
    """Others learn who it is, cannot take it meanwhile, and find it free afterwards."""
    state, other = State(tmp_path / "new"), State(tmp_path / "new")
    with pytest.raises(NotRunningError):
        other.pid()
    with state.held(17):
        assert other.pid() == 17
        with pytest.raises(RunningError), other.held(18):
            pass
        assert other.pid() == 17
    with pytest.raises(NotRunningError):
        other.pid()


def test_ports_are_there_while_it_runs(tmp_path: Path) -> None:
    """They are all different, are read as they were written, and go with the process."""
    ports = Ports.choose(8080, 50051, replicas=3, gateways=2)
    state = State(tmp_path)
    with state.held(17):
        assert state.ports() is None
        state.write_ports(ports)
        assert state.ports() == ports
    assert state.ports() is None
    chosen = [ports.admin, *ports.services, *ports.service_metrics]
    chosen += [*ports.gateways, *ports.gateway_metrics]
    assert len({ports.rest, ports.grpc, *chosen}) == 13
