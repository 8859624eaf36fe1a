from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from rapport.common.settings import load
from rapport.service.config import ServiceSettings
from rapport.v1.chat_pb2_grpc import ChatServiceStub
from rapport.v1.model_pb2_grpc import ModelServiceStub
from tests.service.interceptors.keyed import KEYS, key_file_text

if TYPE_CHECKING:
    from rapport.v1.chat_pb2_grpc import ChatServiceAsyncStub
    from rapport.v1.model_pb2_grpc import ModelServiceAsyncStub


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    path.write_text(key_file_text(KEYS))
    path.chmod(0o600)
    return path


@pytest.fixture
def key_file_settings(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> ServiceSettings:
    """Settings with a key of their own, a limit by default, and the file."""
    monkeypatch.setenv("RAPPORT_API_KEYS", "given")
    flags = ["--grpc-port", "0", "--user-concurrent", "1"]
    return load(ServiceSettings, [*flags, "--api-keys-file", str(key_file)])


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> ChatServiceAsyncStub:
    return ChatServiceStub(channel)


@pytest.fixture
def models(channel: grpc.aio.Channel) -> ModelServiceAsyncStub:
    return ModelServiceStub(channel)
