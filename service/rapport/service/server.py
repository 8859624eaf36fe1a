"""The gRPC server: services, what surrounds them, and the transport's limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import grpc
from grpc_channelz.v1 import channelz_pb2
from grpc_channelz.v1.channelz import add_channelz_servicer
from grpc_health.v1 import health, health_pb2_grpc

from rapport.common.metrics.certificates import Certificates
from rapport.common.settings import warn_of_plain_keys
from rapport.service.config import ServiceSettings
from rapport.service.interceptors.access_log import log_access
from rapport.service.interceptors.auth import authenticate, authorize_model, identify
from rapport.service.interceptors.concurrency_limit import ConcurrencyLimit
from rapport.service.interceptors.context import RequestObserver
from rapport.service.interceptors.errors import report_errors
from rapport.service.interceptors.grpc_internals import mute_send_errors
from rapport.service.interceptors.observers import notify_observers
from rapport.service.interceptors.rate_limit import limit_rate
from rapport.service.interceptors.read import read_request
from rapport.service.interceptors.scope import Scope, ScopeInterceptor
from rapport.service.interceptors.slow_reader import SlowReaderGuard
from rapport.service.keys.key_store import Key, KeyStore
from rapport.service.keys.limits import KeyLimits
from rapport.service.keys.rate_limiter import RateLimiter
from rapport.service.lifecycle import Lifecycle
from rapport.service.request.parse import Defaults
from rapport.service.rpc.chat_service import ChatService
from rapport.service.rpc.credentials import server_certificate, server_credentials
from rapport.service.rpc.model_service import ModelService
from rapport.service.rpc.reflection import add_reflection
from rapport.service.rpc.service_names import CHAT_SERVICE, MODEL_SERVICE, STATUS_SERVICE
from rapport.service.rpc.status_service import StatusService
from rapport.v1.chat_pb2_grpc import add_ChatServiceServicer_to_server
from rapport.v1.model_pb2_grpc import add_ModelServiceServicer_to_server
from rapport.v1.status_pb2_grpc import add_StatusServiceServicer_to_server

# Beyond what may run or wait there are requests being read, and mistakes.
SPARE_RPCS = 256
HANDSHAKE_MS = 20_000
MOST_METADATA = 128 << 10
CHANNELZ_SERVICE = channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name


class PortTakenError(Exception):
    """The address cannot be listened on."""


def build_server(
    settings: ServiceSettings, lifecycle: Lifecycle, *observers: RequestObserver
) -> grpc.aio.Server:
    """A server with everything in it, not yet listening.

    `observers` are called when an RPC has ended, in this order and before the access log.

    Raises:
        KeyFileError: the file of API keys cannot be used.
    """
    mute_send_errors()
    max_rpcs = max_concurrent_rpcs(settings)
    slow_readers = SlowReaderGuard(settings.reader_timeout)
    server = grpc.aio.server(
        interceptors=[
            ScopeInterceptor(list(_scopes(settings, lifecycle, observers)), slow_readers)
        ],
        options=[
            *transport_options(settings.max_message_bytes, 2 * max_rpcs),
            ("grpc.enable_channelz", int(settings.channelz)),
        ],
    )
    defaults = Defaults(
        settings.default_max_tokens,
        stop_in_output=settings.stop_in_output == "include",
        isolate_keys=settings.prefix_isolation == "key",
        max_request_tokens=settings.max_request_tokens,
    )
    chat = ChatService(lifecycle, defaults, log_content=settings.log_content)
    add_ChatServiceServicer_to_server(chat, server)
    add_ModelServiceServicer_to_server(ModelService(lifecycle), server)
    add_StatusServiceServicer_to_server(StatusService(lifecycle), server)
    health_pb2_grpc.add_HealthServicer_to_server(lifecycle.health, server)
    names = [CHAT_SERVICE, MODEL_SERVICE, STATUS_SERVICE, health.SERVICE_NAME]
    if settings.channelz:
        add_channelz_servicer(server)
        names.append(CHANNELZ_SERVICE)
    add_reflection(server, names)
    return server


async def listen(
    server: grpc.aio.Server, settings: ServiceSettings, certificates: Certificates
) -> int:
    """Starts the server and returns the port. Its certificate, if any, joins `certificates`.

    Raises:
        PortTakenError: something else listens there, or the address is not ours.
        CertificateError: the certificate or its key cannot be used.
    """
    address = f"{settings.address}:{settings.grpc_port}"
    try:
        port = _add_port(server, settings, address, certificates)
        if settings.grpc_socket is not None:
            address = f"unix:{settings.grpc_socket}"
            server.add_insecure_port(address)
    except RuntimeError as error:
        raise PortTakenError(f"cannot listen on {address}: is it in use?") from error
    await server.start()
    return port


def _add_port(
    server: grpc.aio.Server, settings: ServiceSettings, address: str, certificates: Certificates
) -> int:
    if settings.grpc_tls is not None:
        certificate = server_certificate(settings.grpc_tls)
        certificates.add("grpc_tls_cert", certificate)
        return server.add_secure_port(address, server_credentials(certificate))
    warn_of_plain_keys(settings, "grpc_host", settings.grpc_host)
    return server.add_insecure_port(address)


def transport_options(max_message_bytes: int, max_streams: int) -> list[tuple[str, int]]:
    return [
        # Of one connection. More than are served at once, so that the rest hears so; with a
        # bound, streams that are reset as soon as they are begun hold up nobody.
        ("grpc.max_concurrent_streams", max_streams),
        # Without it a second server would share the port and take half of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # As much as the gateway takes of a head, and hands on in part.
        ("grpc.max_metadata_size", MOST_METADATA),
        ("grpc.absolute_max_metadata_size", MOST_METADATA + MOST_METADATA // 4),
        # Who connects and says nothing, or half of a handshake, is let go.
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
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


def max_concurrent_rpcs(settings: ServiceSettings) -> int:
    """The number of chat RPCs that may run at once."""
    return settings.slots + settings.max_waiting + SPARE_RPCS


def _scopes(
    settings: ServiceSettings, lifecycle: Lifecycle, observers: Sequence[RequestObserver]
) -> Iterator[Scope]:
    """What surrounds each RPC, the outermost first."""
    yield lifecycle.in_flight.scope
    yield notify_observers(*observers, log_access)
    yield report_errors
    limits = KeyLimits.of(settings)
    if settings.asks_for_key:
        yield authenticate(KeyStore(settings.keys, settings.api_keys_file, limits))
    yield ConcurrencyLimit(max_concurrent_rpcs(settings)).scope
    yield read_request(settings.read_timeout)
    yield identify(settings.user_hash_salt.get_secret_value().encode())
    yield authorize_model
    yield limit_rate(RateLimiter(), Key("", limits))
