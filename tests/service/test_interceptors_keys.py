"""Keys of a file and limits, as gRPC callers meet them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import QuotaFailure, RetryInfo
from grpc_status import rpc_status

from rapport.v1.chat_pb2_grpc import ChatServiceStub
from rapport.v1.model_pb2 import GetModelRequest, ListModelsRequest
from rapport.v1.model_pb2_grpc import ModelServiceStub
from rapport.v1.tokenize_pb2 import TokenizeRequest
from rapport_settings.base import load
from service.config import ServiceSettings
from service.keys.keyring import CHECK_EVERY, hash_of
from service.lifecycle import Lifecycle
from service.server import build_server
from tests.service.fakes import ScriptedEngine, ends, says
from tests.service.requests import MODEL, chat

if TYPE_CHECKING:
    from rapport.v1.chat_pb2_grpc import ChatServiceAsyncStub
    from rapport.v1.model_pb2_grpc import ModelServiceAsyncStub

KEYS = {
    "free": "",
    "slow": "requests_per_minute = 2",
    "narrow": "concurrent = 2",
    "tokens": "prompt_tokens_per_minute = 4\ngenerated_tokens_per_minute = 10",
    "crowd": "user_requests_per_minute = 1",
    "other": 'models = ["other"]\nrequests_per_minute = 1',
    "ours": f'models = ["{MODEL}"]',
    "gone": "disabled = true",
}


def text_of(keys: dict[str, str]) -> str:
    tables = (f'[{key}]\nhash = "{hash_of(key.encode())}"\n{rest}\n' for key, rest in keys.items())
    return "".join(tables)


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    path.write_text(text_of(KEYS))
    path.chmod(0o600)
    return path


@pytest.fixture
def settings(keys_file: Path) -> ServiceSettings:
    flags = ["--grpc-port", "0", "--api-keys", "given", "--user-concurrent", "1"]
    return load(ServiceSettings, [*flags, "--api-keys-file", str(keys_file)])


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> ChatServiceAsyncStub:
    return ChatServiceStub(channel)


@pytest.fixture
def models(channel: grpc.aio.Channel) -> ModelServiceAsyncStub:
    return ModelServiceStub(channel)


def shown(key: str) -> dict[str, Any]:
    return {"metadata": (("authorization", f"Bearer {key}"),)}


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


def detail[T: Message](error: grpc.aio.AioRpcError, kind: type[T]) -> T:
    return kind()


def rates(metadata: Any) -> dict[str, str]:
    return {name: value for name, value in metadata if name.startswith("x-ratelimit-")}
