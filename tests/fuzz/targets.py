"""The targets of fuzzing: functions that take any bytes, and raise only if the code has a bug.

`make fuzz` drives them by coverage, `make test` with the seeds and with random bytes.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import DecodeError

from rapport.common.fair_threads import finish
from rapport.common.model_spec import ModelSpec
from rapport.gateway.app import Gateway
from rapport.gateway.config import GatewaySettings
from rapport.gateway.dialects.fireworks import FIREWORKS
from rapport.gateway.errors import ApiError
from rapport.gateway.http1.exchange import Exchange
from rapport.gateway.http1.parser import Incoming, Input, Request
from rapport.gateway.transcoding.codec.decode import decoder
from rapport.gateway.transcoding.codec.encode import encoder
from rapport.gateway.transcoding.codec.violations import InvalidError
from rapport.models.errors import ModelError
from rapport.models.gguf.model import GgufModel
from rapport.models.importer import ensure
from rapport.models.onnx.precision import cpu_precision
from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler, GrammarError
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.errors import InvalidRequestError
from rapport.service.prompt.prompt_encoder import PromptEncoder
from rapport.service.prompt.template import ChatTemplate
from rapport.service.prompt.turns import Conversation, Turn
from rapport.service.request.generation import (
    Defaults,
    build_generation_request,
    tokenize_request,
)
from rapport.service.request.limits import check_sizes
from rapport.service.request.parse import parse_chat_request
from rapport.service.structured_output.response_format import grammar_source
from rapport.service.tools.grammar import tool_call_grammar
from rapport.service.tools.tool_call_parser import (
    ArgumentsDelta,
    CallStart,
    ParserEvent,
    TextDelta,
    ToolCallParser,
)
from rapport.v1 import chat_pb2, model_pb2, tokenize_pb2
from rapport.v1.chat_pb2 import CreateChatCompletionRequest
from tests.conftest import MODEL
from tests.gateway.peers import FakePeer

Target = Callable[[bytes], object]

DESCRIPTORS = [file.DESCRIPTOR for file in (chat_pb2, model_pb2, tokenize_pb2)]
CONTEXT = 8192
KINDS = ("grammar", "regex", "json_schema")


def codec(data: bytes) -> None:
    """JSON to a request and back."""
    read, write = coders()
    try:
        message = read(orjson.loads(data))
    except (orjson.JSONDecodeError, InvalidError):
        return
    again = read(orjson.loads(orjson.dumps(write(message))))
    assert again.SerializeToString() == message.SerializeToString()


@cache
def coders() -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    request = CreateChatCompletionRequest.DESCRIPTOR
    return decoder(request, ignore_unknown=False), encoder(request)


def http(data: bytes) -> None:
    """A request to the gateway: a line of method and path, lines of headers, a body in pieces.

    There is no service behind it: a good request gets a 503, or a 504 if it does not wait.
    """
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    method, _, target = first.partition(b" ")
    path, _, query = target.partition(b"?")
    headers = [line.decode("latin-1").partition(":")[::2] for line in lines]
    request = Request(
        printable(method).decode(),
        printable(path).decode(),
        query,
        "localhost",
        [(name.strip().lower(), value.strip()) for name, value in headers],
    )
    pieces = [body[place : place + 16] for place in range(0, len(body), 16)]
    status, answer = runner().run(exchanged(request, pieces))
    assert 200 <= status < 500 or status in (503, 504), (status, answer)


def http1(data: bytes) -> None:
    """What comes on a connection: the first byte says in what pieces, which make no difference."""
    size, sent = max(data[0], 1) if data else 1, data[1:]
    pieces = [sent[place : place + size] for place in range(0, len(sent), size)]
    assert requests_in(pieces) == requests_in([sent])


def requests_in(pieces: list[bytes]) -> list[object]:
    """The requests and their bodies; if it was an error that ended them, its status."""
    found: list[object] = []
    waiting, current, body = Input(), None, b""
    try:
        for piece in pieces:
            waiting.data += piece
            while True:
                if current is None:
                    if (head := waiting.take_head()) is None:
                        break
                    current, body = Incoming(head, waiting.data), b""
                    found.append(current.request)
                while part := current.read():
                    body += part
                if part is None:
                    break
                found.append(body)
                current = None
    except ApiError as error:
        found.append(error.status)
    return found


async def exchanged(request: Request, pieces: list[bytes]) -> tuple[int, bytes]:
    """The status and the body that the gateway answers with."""
    app, peer = gateway(), FakePeer([*pieces, b""])
    exchange = Exchange(request, peer, FIREWORKS, "http")
    app._upstream.start()
    try:
        await asyncio.wait_for(app.handle(exchange), 10)
    finally:
        await app._upstream.close()
    assert exchange.finished
    assert exchange.status is not None
    return exchange.status, peer.body


@cache
def runner() -> asyncio.Runner:
    """One event loop for all inputs: gRPC's thread goes on to wake the one that it knows."""
    return asyncio.Runner()


@cache
def gateway() -> Gateway:
    """A gateway without a service behind it, which has the descriptors of the service."""
    settings = GatewaySettings(upstream="127.0.0.1:1", descriptor_set=descriptor_set())
    return Gateway(settings, FIREWORKS)


def printable(text: bytes) -> bytes:
    # The HTTP parser in front of the gateway accepts nothing else.
    return bytes(byte for byte in text if 0x21 <= byte < 0x7F) or b"/"


@cache
def descriptor_set() -> Path:
    files: dict[str, Any] = {}

    def add(file: Any) -> None:
        for dependency in file.dependencies:
            add(dependency)
        files.setdefault(file.name, file)

    for descriptor in DESCRIPTORS:
        add(descriptor)
    descriptors = FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(descriptors.file.add())
    path = Path(tempfile.mkdtemp()) / "rapport.binpb"
    path.write_bytes(descriptors.SerializeToString())
    return path


def tool_calls(data: bytes) -> None:
    """The text of a model that has tools: its calls do not depend on how it is cut."""
    text = data.decode(errors="replace")
    assert joined(read_calls(*text.split("\0"))) == joined(read_calls(text.replace("\0", "")))


def read_calls(*pieces: str) -> list[ParserEvent]:
    parser = ToolCallParser(["f", "get_weather"])
    return [*(event for piece in pieces for event in parser.push(piece)), *parser.end()]


def joined(events: list[ParserEvent]) -> list[str]:
    """The texts and calls, with their pieces joined."""
    parts: list[list[str]] = []
    for event in events:
        match event:
            case CallStart(name):
                parts.append(["call", name, ""])
            case TextDelta(text) | ArgumentsDelta(text):
                kind = "said" if isinstance(event, TextDelta) else "call"
                if not parts or parts[-1][0] != kind:
                    parts.append([kind, "", ""])
                parts[-1][2] += text
    return [":".join(part) for part in parts]


def gguf(data: bytes) -> None:
    """A model file."""
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(data)
        file.flush()
        with suppress(ModelError):
            read = GgufModel(Path(file.name))
            read.tokenizer()
            assert isinstance(read.chat_templates.default, str)
            assert read.end_tokens
            for name in read.file.tensors:
                read.file.matrix(name).floats().sum()


def formats(data: bytes) -> None:
    """A response format: a byte for its kind, then its text."""
    kind = KINDS[data[0] % len(KINDS)] if data else KINDS[0]
    request = CreateChatCompletionRequest()
    setattr(request.response_format, kind, data[1:].decode(errors="replace"))
    with suppress(InvalidRequestError, GrammarError):
        source = grammar_source(request.response_format)
        assert source is not None
        model().compiler.compile(source.text)


def template(data: bytes) -> None:
    """A chat template."""
    try:
        read = ChatTemplate(data.decode(errors="surrogateescape"))
    except ValueError:
        return
    assert read.takes_tools in (True, False)
    with suppress(InvalidRequestError):
        read.render(Conversation([Turn("system", ""), Turn("user", "Hi")])).encode()
        read.system_prompt.encode()


def request(data: bytes) -> None:
    """A request over gRPC, up to the engine."""
    try:
        message = CreateChatCompletionRequest.FromString(data)
    except DecodeError:
        return
    loaded = model()
    size = loaded.vocabulary.size
    with suppress(InvalidRequestError, GrammarError):
        check_sizes(message)
        parsed = parse_chat_request(message, vocabulary_size=size, streaming=message.stream)
        tokens = finish(tokenize_request(parsed, loaded, Defaults()))  # type: ignore[arg-type]
        build_generation_request(parsed, tokens, None, Defaults())
        if parsed.tools.functions:
            loaded.compiler.compile(tool_call_grammar(parsed.tools).text)


class Loaded:
    """What reads requests for the default model; it stands for `ServedModel` and for its engine."""

    context_length = CONTEXT

    def __init__(self) -> None:
        self.engine = self
        folder = ensure(MODEL, cpu_precision())
        spec = ModelSpec.read(folder)
        self.vocabulary = Vocabulary.read(folder, spec.vocab_size)
        self.prompts = PromptEncoder.load(folder, self.vocabulary, CONTEXT)
        self.compiler = GrammarCompiler(self.vocabulary, spec.eos_token_ids)


@cache
def model() -> Loaded:
    return Loaded()


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (codec, http, http1, tool_calls, gguf, formats, template, request)
}
