"""Reflection, asked by the tools that people use, as real processes."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.service.fakes import ScriptedEngine, ends
from tests.service.requests import MODEL

BIN = Path(sys.executable).parent
SERVICES = {
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "rapport.v1.ChatService",
    "rapport.v1.ModelService",
    "rapport.v1.StatusService",
}
REQUEST = json.dumps(
    {"model": MODEL, "messages": [{"role": "ROLE_USER", "content": {"text": "Hi"}}]}
)


async def ran(program: str, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        BIN / program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
    return output.decode()


async def grpcurl(*arguments: str) -> str:
    return await ran("grpcurl", "-plaintext", *arguments)


async def buf_curl(*arguments: str) -> str:
    return await ran("buf", "curl", "--protocol", "grpc", "--http2-prior-knowledge", *arguments)


async def test_grpcurl_lists(address: str) -> None:
    """All services are listed, both reflections among them."""
    assert set((await grpcurl(address, "list")).split()) == SERVICES


@pytest.mark.parametrize("service", sorted(SERVICES))
async def test_grpcurl_describes(address: str, service: str) -> None:
    """All services that are listed can be described."""
    described = await grpcurl(address, "describe", service)
    assert described.startswith(f"{service} is a service:")


async def test_grpcurl_calls(address: str, engine: ScriptedEngine) -> None:
    """grpcurl calls both RPCs without any protos at hand."""
    engine.script = [ends(0, "Hello")]
    whole = await grpcurl("-d", REQUEST, address, "rapport.v1.ChatService/CreateChatCompletion")
    assert json.loads(whole)["choices"][0]["message"]["content"] == "Hello"
    stream = await grpcurl("-d", REQUEST, address, "rapport.v1.ChatService/StreamChatCompletion")
    assert '"content": "Hello"' in stream


@pytest.mark.parametrize("version", ["grpc-v1", "grpc-v1alpha"])
async def test_buf_curl_calls(address: str, engine: ScriptedEngine, version: str) -> None:
    """buf curl calls through each version of reflection."""
    engine.script = [ends(0, "Hello")]
    url = f"http://{address}/rapport.v1.ChatService/CreateChatCompletion"
    whole = await buf_curl("--reflect-protocol", version, "--data", REQUEST, url)
    assert json.loads(whole)["choices"][0]["message"]["content"] == "Hello"


async def test_buf_curl_lists_methods(address: str) -> None:
    """buf curl lists the methods of all services."""
    methods = await buf_curl("--list-methods", f"http://{address}")
    assert "rapport.v1.ChatService/StreamChatCompletion" in methods.split()
