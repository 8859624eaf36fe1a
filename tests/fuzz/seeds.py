"""Inputs that fuzzing begins with, and those that once were findings."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import orjson

from rapport.v1.chat_pb2 import CreateChatCompletionRequest
from rapport.v1.tool_pb2 import FunctionDefinition, Tool
from tests.conftest import MODEL
from tests.contract.examples import TOOLS
from tests.models.tiny import Tiny, write_tiny
from tests.service.prompt.templates import GEMMA, OTHER, QWEN
from tests.service.requests import chat
from tests.service.tools.calls import hermes_call

BODY = orjson.dumps(
    {
        "model": MODEL,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": None, "tool_calls": []},
        ],
        "tools": TOOLS,
        "response_format": {"type": "json_object", "schema": {"type": "object"}},
        "stop": ["a"],
        "logit_bias": {"1": 1},
        "logprobs": True,
        "stream": True,
        "speculation": [1, 2],
        "reasoning_effort": "none",
    }
)
POST = b"POST /v1/chat/completions\ncontent-type: application/json\ngrpc-timeout: 1S\n\n"
SCHEMA = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/b"}},
    "required": ["a"],
    "$defs": {"b": {"type": "string", "pattern": "^a+$"}},
}
# Bytes of a tiny model file before its lists of tokens.
HEAD = 600
CHUNKS = b"3;a=b\r\nabc\r\n0\r\nx: y\r\n\r\nOPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n"
TOOL = Tool(function=FunctionDefinition(name="f", parameters='{"type": "object"}', strict=True))


@cache
def seeds() -> dict[str, list[bytes]]:
    """By target."""
    return {
        "codec": [BODY, b'{"messages":' + b"[" * 200],
        "http": [
            POST + BODY,
            POST.replace(b"1S", b"99999999H") + BODY,
            b"POST /v1/tokenize\ncontent-type: application/json\n\n{}",
            b"GET /v1/models/%2f?model=%ff\nx-request-id: \xff",
            b"GET /health\n",
            b"HEAD /openapi.json\n",
            b"GET /v1/models?a=1&a=2\ncontent-length: 99999999999999999999999\n",
        ],
        "http1": [
            b"\x03\r\nGET /a?b#c HTTP/1.1\r\nhost: x\r\n\r\nGET http://y/ HTTP/1.0\r\n\r\n",
            b"\x01POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nhost",
            b"\x05POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
        ],
        "tool_calls": [
            hermes_call("f", '{"x": "}<tool_call>"}').encode(),
            hermes_call("f", "{}").encode().replace(b"name", b"na\0me") + b"<tool_",
            b'<tool_call>\n{"name": "g", "arguments": {}}',
        ],
        "gguf": [tiny(), tiny()[: HEAD // 2], tiny()[:HEAD]],
        "formats": [
            b'\x00root ::= "a" ([b-z] root){0,3} | "\\u0041"',
            b"\x01(a|b)*\\d{2,}[^x]",
            b"\x02" + orjson.dumps(SCHEMA),
        ],
        "template": [text.encode() for text in (GEMMA, OTHER, QWEN)],
        "request": [
            chat().SerializeToString(),
            chat(tools=[TOOL], n=2, stop={"text": "x"}).SerializeToString(),
            CreateChatCompletionRequest(logit_bias={-1: 5}).SerializeToString(),
        ],
    }


@cache
def tiny() -> bytes:
    """A whole model file."""
    with tempfile.TemporaryDirectory() as folder:
        return write_tiny(Path(folder) / "tiny.gguf", Tiny()).read_bytes()
