"""The gRPC server: services, what surrounds them, and the transport's limits."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from rapport.v1.chat_pb2_grpc import add_ChatServiceServicer_to_server
from rapport.v1.model_pb2_grpc import add_ModelServiceServicer_to_server
from service.catalog import ModelService
from service.chat import ChatService
from service.config import ServiceSettings
from service.delivery import Readers
from service.interceptors import Around, Scope, answer_errors, keep_account, log_access, require_key
from service.lifecycle import CHAT_SERVICE, MODEL_SERVICE, Lifecycle
from service.reflection import add_reflection
from service.request import Defaults

# Beyond what may run or wait there are requests being read, probes and mistakes.
SPARE_RPCS = 256


class PortTakenError(Exception):
    """The address cannot be listened on."""


def build_server(settings: ServiceSettings, lifecycle: Lifecycle) -> grpc.aio.Server:
    """A server with everything in it, not yet listening."""
    server = grpc.aio.server(
        interceptors=[Around(list(_scopes(settings)), Readers(settings.reader_timeout))],
        options=transport_options(settings.max_message_bytes),
        maximum_concurrent_rpcs=settings.slots + settings.max_waiting + SPARE_RPCS,
    )
    defaults = Defaults(
        settings.default_max_tokens,
        stop_in_output=settings.stop_in_output == "include",
        isolate_keys=settings.prefix_isolation == "key",
    )
    add_ChatServiceServicer_to_server(ChatService(lifecycle, defaults), server)
    add_ModelServiceServicer_to_server(ModelService(lifecycle), server)
    health_pb2_grpc.add_HealthServicer_to_server(lifecycle.health, server)
    add_reflection(server, (CHAT_SERVICE, MODEL_SERVICE, health.SERVICE_NAME))
    return server


async def listen(server: grpc.aio.Server, settings: ServiceSettings) -> int:
    """Starts the server and returns the port.

    Raises:
        PortTakenError: something else listens there, or the address is not ours.
    """
    address = f"{settings.address}:{settings.grpc_port}"
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise PortTakenError(f"cannot listen on {address}: is it in use?") from error
    await server.start()
    return port


def transport_options(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        # Without it a second server would share the port and take half of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # Calls that this process has not looked at for so many seconds are cancelled without its
        # knowing: it is for the caller's deadline, and for admission, to say when to give up.
        ("grpc.server_max_unrequested_time_in_server", 3600),
        # Finds callers that are gone without a word, within about a minute.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Callers may ping as often as every 10 s, also between calls.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]


def _scopes(settings: ServiceSettings) -> Iterator[Scope]:
    yield keep_account(log_access)
    yield answer_errors
    if settings.keys:
        yield require_key(settings.keys)
