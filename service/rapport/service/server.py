"""The gRPC server: its services, interceptors and transport options."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import grpc
from grpc_channelz.v1 import channelz_pb2
from grpc_channelz.v1.channelz import add_channelz_servicer
from grpc_health.v1 import health, health_pb2_grpc

from rapport.common.addresses import bracketed, local_addresses
from rapport.common.fair_threads import FairThreads
from rapport.common.fd_limit import max_connections
from rapport.common.metrics.certificates import Certificates
from rapport.common.settings import warn_of_plain_keys
from rapport.service.config import ServiceSettings
from rapport.service.interceptors.access_log import log_access, log_failures
from rapport.service.interceptors.auth import (
    authenticate,
    authorize_admin,
    authorize_model,
    identify,
)
from rapport.service.interceptors.concurrency_limit import ConcurrencyLimit
from rapport.service.interceptors.connection_limit import ConnectionLimit
from rapport.service.interceptors.context import RequestObserver
from rapport.service.interceptors.errors import report_errors
from rapport.service.interceptors.grpc_internals import (
    mute_callers_errors,
    surviving_undecodable_paths,
)
from rapport.service.interceptors.observers import notify_observers
from rapport.service.interceptors.rate_limit import limit_rate, limit_users
from rapport.service.interceptors.read import MessageReader, read_request
from rapport.service.interceptors.scope import Scope, ScopeInterceptor
from rapport.service.interceptors.slow_reader import SlowReaderGuard
from rapport.service.interceptors.unknown_method import refusing_unknown_methods
from rapport.service.keys.key_store import Key, KeyStore
from rapport.service.keys.limits import KeyLimits
from rapport.service.keys.rate_limiter import RateLimiter
from rapport.service.lifecycle import Lifecycle
from rapport.service.request.generation import Defaults
from rapport.service.rpc.chat_service import ChatService
from rapport.service.rpc.completion_service import CompletionService
from rapport.service.rpc.credentials import server_certificate, server_credentials
from rapport.service.rpc.model_service import ModelService
from rapport.service.rpc.reflection import add_reflection
from rapport.service.rpc.service_names import (
    CHAT_SERVICE,
    COMPLETION_SERVICE,
    GENERATING,
    MODEL_SERVICE,
    STATUS_SERVICE,
)
from rapport.service.rpc.status_service import StatusService
from rapport.v1.chat_pb2_grpc import add_ChatServiceServicer_to_server
from rapport.v1.completion_pb2_grpc import add_CompletionServiceServicer_to_server
from rapport.v1.model_pb2_grpc import add_ModelServiceServicer_to_server
from rapport.v1.status_pb2_grpc import add_StatusServiceServicer_to_server

# RPCs beyond those that run or wait: their requests are being read, or are refused.
SPARE_RPCS = 256
# Streams of a connection beyond the RPCs that a lone caller may have: they are refused with a
# status, or were just cancelled and still count.
SPARE_STREAMS = 256
# gRPC keeps the calls of so many connections of each method until they are accepted. Beyond it
# drops those of anybody. Each takes some 15 kB and its metadata.
MAX_PENDING_CONNECTIONS = 20
# Places for RPCs of the other services.
OTHER_PLACES = 512
# They parse and tokenize requests, which takes a good part of a second for a long one. Two leave
# cores to the model.
THREADS = 2
HANDSHAKE_TIMEOUT_MS = 20_000
# Twice gRPC's own default. A key, a request id and a trace are far less.
MAX_METADATA_BYTES = 16 << 10
# As much as the gateway accepts as the head of a request, part of which it forwards.
MAX_FORWARDED_BYTES = 128 << 10
CHANNELZ_SERVICE = channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name
KEYED_SERVICES = ("/rapport.", "/grpc.channelz.")
HEALTH_SERVICE = f"/{health.SERVICE_NAME}/"
WATCH = f"{HEALTH_SERVICE}Watch"
ADMIN_SERVICES = (f"/{STATUS_SERVICE}/", f"/{CHANNELZ_SERVICE}/")
REFLECTION = "/grpc.reflection."
# Who watches the health has one call for each service name. 4,096 that nobody reads take 130 MB.
MAX_WATCHES_PER_CONNECTION = 16
MAX_WATCHES = 4096
MAX_REFLECTIONS_PER_CONNECTION = 4
MAX_REFLECTIONS = 256
# Each may be a part of a message of `max_message_bytes`.
MAX_INCOMPLETE_REQUESTS = 64


class PortTakenError(Exception):
    """The address cannot be listened on."""


class Server:
    """Serves the RPCs at the address and, where the gateway has a socket, there too.

    gRPC accepts the calls of a server in turn. The socket has a server of its own, so that callers
    over REST do not wait for thousands of calls that somebody begins over gRPC.

    `observers` are called when an RPC has ended, in this order and before the access log.

    Raises:
        KeyFileError: the file of API keys cannot be used.
    """

    def __init__(
        self, settings: ServiceSettings, lifecycle: Lifecycle, *observers: RequestObserver
    ) -> None:
        mute_callers_errors()
        self._settings = settings
        threads = FairThreads(THREADS, "request")
        interceptors = list(_interceptors(settings, lifecycle, threads, observers))
        places = _places(settings)
        max_streams = places // 2 + SPARE_STREAMS
        self._at_address = self._build(interceptors, max_streams, MAX_METADATA_BYTES)
        # The gateway's one connection is that of all callers over REST.
        self._at_socket = self._build(interceptors, 2 * places, MAX_FORWARDED_BYTES)
        for server in (self._at_address, self._at_socket):
            _add_services(server, settings, lifecycle, threads)

    async def listen(self, certificates: Certificates) -> int:
        """Starts to serve and returns the port. Adds the server's certificate to `certificates`.

        Raises:
            PortTakenError: the port is in use, or the address is not of this machine.
            CertificateError: the certificate or its key cannot be used.
        """
        port = self._settings.grpc_port
        address = f"{self._settings.address}:{port}"
        credentials = _credentials(self._settings, certificates)
        try:
            # gRPC itself would be content with some of a name's addresses.
            for each in local_addresses(self._settings.grpc_host):
                port = _add_port(self._at_address, f"{bracketed(each)}:{port}", credentials)
            if self._settings.grpc_socket is not None:
                address = f"unix:{self._settings.grpc_socket}"
                self._at_socket.add_insecure_port(address)
        except (OSError, RuntimeError) as error:
            raise PortTakenError(f"cannot listen on {address}: is it in use?") from error
        await self._at_socket.start()
        await self._at_address.start()
        return port

    async def stop(self, grace_s: float | None) -> None:
        """Takes no more calls, and ends those that run when the grace is over."""
        await asyncio.gather(self._at_address.stop(grace_s), self._at_socket.stop(grace_s))

    def _build(
        self, interceptors: Sequence[ScopeInterceptor], max_streams: int, max_metadata_bytes: int
    ) -> grpc.aio.Server:
        options = [
            *_transport_options(self._settings.max_message_bytes, max_streams),
            ("grpc.max_metadata_size", max_metadata_bytes),
            # At random gRPC accepts more, up to this.
            ("grpc.absolute_max_metadata_size", max_metadata_bytes + max_metadata_bytes // 4),
            ("grpc.enable_channelz", int(self._settings.channelz)),
        ]
        with surviving_undecodable_paths(refusing_unknown_methods()):
            return grpc.aio.server(interceptors=interceptors, options=options)


def _add_services(
    server: grpc.aio.Server, settings: ServiceSettings, lifecycle: Lifecycle, threads: FairThreads
) -> None:
    defaults = Defaults(
        settings.default_max_tokens,
        stop_in_output=settings.stop_in_output == "include",
        model_sampling=settings.generation_defaults == "model",
        isolate_keys=settings.prefix_isolation == "key",
        max_request_tokens=settings.max_request_tokens,
    )
    shared = (lifecycle, defaults, threads)
    chat = ChatService(*shared, log_content=settings.log_content)
    add_ChatServiceServicer_to_server(chat, server)
    completions = CompletionService(*shared, log_content=settings.log_content)
    add_CompletionServiceServicer_to_server(completions, server)
    add_ModelServiceServicer_to_server(ModelService(lifecycle), server)
    add_StatusServiceServicer_to_server(StatusService(lifecycle), server)
    health_pb2_grpc.add_HealthServicer_to_server(lifecycle.health, server)
    names = [CHAT_SERVICE, COMPLETION_SERVICE, MODEL_SERVICE, STATUS_SERVICE, health.SERVICE_NAME]
    if settings.channelz:
        add_channelz_servicer(server)
        names.append(CHANNELZ_SERVICE)
    add_reflection(server, names, _reader(settings))


def _credentials(
    settings: ServiceSettings, certificates: Certificates
) -> grpc.ServerCredentials | None:
    if settings.grpc_tls is None:
        warn_of_plain_keys(settings, "grpc_host", settings.grpc_host)
        return None
    certificate = server_certificate(settings.grpc_tls)
    certificates.add("grpc_tls_cert", certificate)
    return server_credentials(certificate)


def _add_port(
    server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None
) -> int:
    if credentials is None:
        return server.add_insecure_port(address)
    return server.add_secure_port(address, credentials)


def _transport_options(max_message_bytes: int, max_streams: int) -> list[tuple[str, int]]:
    return [
        # Of each address; the gateway's socket is one. More are closed at once: they must not take
        # the files that the process needs to read keys and to answer scrapes.
        ("grpc.max_allowed_incoming_connections", max_connections()),
        # Per connection. It is bounded, so that streams which are reset at once hold up others the
        # less, and take little memory until they are accepted.
        ("grpc.max_concurrent_streams", max_streams),
        # With it a second server could share the port and take half of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # Closes connections that send nothing, or only half of a handshake.
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_TIMEOUT_MS),
        # gRPC cancels calls that the process has not accepted for so many seconds, without telling
        # it. The caller's deadline and admission decide when to give up, so this is long.
        ("grpc.server_max_unrequested_time_in_server", 3600),
        # Nor does it drop calls because many of others wait to be accepted, such as those of a
        # caller who resets its streams at once: by default it does so from the 1,000th on.
        ("grpc.server.max_pending_requests", MAX_PENDING_CONNECTIONS * max_streams),
        ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING_CONNECTIONS * max_streams),
        # Detects clients that vanished without closing the connection, within about a minute.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Clients may ping as often as every 5 s, also between calls. Those that mean to ping every
        # 10 s are early by some milliseconds at times.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ]


def _places(settings: ServiceSettings) -> int:
    """The number of places for RPCs that generate text, half of which a lone caller may have."""
    return 2 * (settings.slots + settings.max_waiting + SPARE_RPCS)


def _interceptors(
    settings: ServiceSettings,
    lifecycle: Lifecycle,
    threads: FairThreads,
    observers: Sequence[RequestObserver],
) -> Iterator[ScopeInterceptor]:
    shared = (SlowReaderGuard(settings.reader_timeout), lifecycle.in_flight.count_reset)
    scopes = list(_scopes(settings, lifecycle, threads, observers))
    yield ScopeInterceptor(KEYED_SERVICES, scopes, *shared)
    # Probes and the gateway have no key for these, and successes are not worth a line.
    outer = [notify_observers(log_failures()), report_errors]
    watches = ConnectionLimit(WATCH, MAX_WATCHES_PER_CONNECTION, MAX_WATCHES)
    scopes = [*outer, watches.scope, read_request(_reader(settings), threads)]
    yield ScopeInterceptor(HEALTH_SERVICE, scopes, *shared, send_headers=False)
    streams = ConnectionLimit(REFLECTION, MAX_REFLECTIONS_PER_CONNECTION, MAX_REFLECTIONS)
    scopes = [*outer, streams.scope]
    yield ScopeInterceptor(REFLECTION, scopes, *shared, send_headers=False)


def _reader(settings: ServiceSettings) -> MessageReader:
    return MessageReader(settings.read_timeout, MAX_INCOMPLETE_REQUESTS)


def _scopes(
    settings: ServiceSettings,
    lifecycle: Lifecycle,
    threads: FairThreads,
    observers: Sequence[RequestObserver],
) -> Iterator[Scope]:
    """What surrounds each RPC, the outermost first."""
    yield lifecycle.in_flight.scope
    yield notify_observers(*observers, log_access)
    yield report_errors
    limits = KeyLimits.of(settings)
    if settings.asks_for_key:
        yield authenticate(KeyStore(settings.keys, settings.api_keys_file, limits))
        yield authorize_admin(*ADMIN_SERVICES)
    yield ConcurrencyLimit(_places(settings), _generates).scope
    yield ConcurrencyLimit(OTHER_PLACES, lambda method: not _generates(method)).scope
    yield limit_rate(RateLimiter(), Key("", limits))
    yield read_request(_reader(settings), threads)
    yield identify(settings.user_hash_salt.get_secret_value().encode())
    yield authorize_model(lambda: lifecycle.names)
    yield limit_users


def _generates(method: str) -> bool:
    return method.startswith(GENERATING)
