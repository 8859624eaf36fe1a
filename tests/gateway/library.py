"""The toy service: its descriptors, compiled when tests run, and a server."""

from __future__ import annotations

import asyncio
import functools
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import grpc
from google.api import annotations_pb2
from google.protobuf.any_pb2 import Any as AnyProto
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.rpc import status_pb2
from grpc_health.v1 import health
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha._async import ReflectionServicer
from grpc_reflection.v1alpha.reflection_pb2_grpc import add_ServerReflectionServicer_to_server
from grpc_status.rpc_status import to_status
from grpc_tools import protoc

HERE = Path(__file__).parent
PROTOS = HERE.parents[1] / "protos"
SERVICE = "toy.v1.LibraryService"


@functools.cache
def descriptor_set() -> bytes:
    """The compiled toy.proto, with all that it imports."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "toy.binpb"
        site = Path(annotations_pb2.__file__).parents[2]
        includes = [f"-I{HERE / 'toy'}", f"-I{PROTOS}", f"-I{site}"]
        well_known = f"-I{files('grpc_tools') / '_proto'}"
        options = [
            "--include_imports",
            "--include_source_info",
            f"--descriptor_set_out={target}",
        ]
        assert protoc.main(["protoc", *includes, well_known, *options, "toy.proto"]) == 0
        return target.read_bytes()


def pool_of(serialized: bytes) -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(serialized).file:
        pool.Add(file)
    return pool


@functools.cache
def pool() -> DescriptorPool:
    return pool_of(descriptor_set())


def message(name: str) -> type[Any]:
    return GetMessageClass(pool().FindMessageTypeByName(f"toy.v1.{name}"))


def rpc(name: str) -> Any:
    return pool().FindServiceByName(SERVICE).methods_by_name[name]


class Library:
    """Answers, and remembers what became of its calls."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        self.produced = 0
        self.metadata: dict[str, str] = {}
        self.initial: tuple[tuple[str, str], ...] = ()
        self.trailing: tuple[tuple[str, str], ...] = ()
        self.details: list[Any] = []

    async def get_book(self, request: Any, _: Any) -> Any:
        shared = [field.name for field in message("Book").DESCRIPTOR.fields]
        present = {field.name: value for field, value in request.ListFields()}
        return message("Book")(**{key: present[key] for key in shared if key in present})

    async def echo(self, request: Any, _: Any) -> Any:
        return request

    async def empty(self, *_: Any) -> Any:
        return GetMessageClass(pool().FindMessageTypeByName("google.protobuf.Empty"))()

    async def default_book(self, *_: Any) -> Any:
        return message("Book")(title="default")

    async def tell(self, request: Any, context: Any) -> Any:
        self._note(context)
        self.started.set()
        try:
            await context.send_initial_metadata(self.initial)
            if request.HasField("hang_after"):
                await asyncio.sleep(60)
            await self._fail_if_asked(request, context, 0)
            return message("TellResponse")(
                text="x" * request.size, metadata=self.metadata, total=request.count
            )
        finally:
            self.ended.set()

    async def stream_tell(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self._note(context)
        self.started.set()
        try:
            await context.send_initial_metadata(self.initial)
            for index in range(request.count):
                if request.HasField("hang_after") and index == request.hang_after:
                    await asyncio.sleep(60)
                await self._fail_if_asked(request, context, index)
                yield message("TellChunk")(index=index, text="x" * request.size, total=index)
                self.produced += 1
                await asyncio.sleep(request.pause_ms / 1000)
        finally:
            self.ended.set()

    def _note(self, context: Any) -> None:
        pairs = context.invocation_metadata()
        self.metadata = {key: value for key, value in pairs if isinstance(value, str)}

    async def _fail_if_asked(self, request: Any, context: Any, index: int) -> None:
        if not request.HasField("fail_after") or index != request.fail_after:
            return
        code = next(code for code in grpc.StatusCode if code.value[0] == request.code)
        context.set_trailing_metadata(self.trailing)
        if not self.details:
            await context.abort(code, request.message, self.trailing)
        status = status_pb2.Status(code=request.code, message=request.message)
        for detail in self.details:
            packed = AnyProto()
            packed.Pack(detail)
            status.details.append(packed)
        trailing = (*self.trailing, *to_status(status).trailing_metadata)
        await context.abort(code, request.message, trailing)


def _handlers(library: Library) -> dict[str, grpc.RpcMethodHandler]:
    unary: dict[str, Callable[..., Any]] = {
        "GetBook": library.get_book,
        "GetDefaultBook": library.default_book,
        "DeleteBook": library.empty,
        "PutBook": library.get_book,
        "Echo": library.echo,
        "Tell": library.tell,
    }
    made = {name: _handler(name, answer, streams=False) for name, answer in unary.items()}
    streams = ("StreamTell", "Watch")
    return made | {name: _handler(name, library.stream_tell, streams=True) for name in streams}


def _handler(name: str, answer: Any, *, streams: bool) -> grpc.RpcMethodHandler:
    make = grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
    request = GetMessageClass(rpc(name).input_type)
    return make(answer, request.FromString, lambda reply: reply.SerializeToString())


@asynccontextmanager
async def serving(
    library: Library,
    port: int = 0,
    *,
    descriptors: bytes | None = None,
    status: Any = HealthCheckResponse.SERVING,
    max_receive: int = -1,
    credentials: grpc.ServerCredentials | None = None,
) -> AsyncIterator[int]:
    """Serves the library, with reflection and health; gives the port."""
    options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", max_receive)]
    server = grpc.aio.server(options=options)
    handler = grpc.method_handlers_generic_handler(SERVICE, _handlers(library))
    server.add_generic_rpc_handlers((handler,))
    reflected = pool_of(descriptors or descriptor_set())
    servicer = ReflectionServicer([SERVICE, health.SERVICE_NAME], pool=reflected)
    add_ServerReflectionServicer_to_server(servicer, server)
    checks = HealthServicer()
    await checks.set("", status)
    add_HealthServicer_to_server(checks, server)
    address = f"127.0.0.1:{port}"
    if credentials is None:
        port = server.add_insecure_port(address)
    else:
        port = server.add_secure_port(address, credentials)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)
