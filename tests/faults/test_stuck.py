"""Callers that stop reading over TLS, on both ports of the real processes: one slot for all."""

from __future__ import annotations

import os
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import httpx
import pytest
from google.rpc.error_details_pb2 import ErrorInfo

from bench.server import Server, Target, free_ports
from rapport.common.tls import TlsFiles
from tests.certificates import Authority
from tests.contract.callers import Grpc, Rest, chat, to_proto, unpacked
from tests.faults.conftest import Serving
from tests.faults.test_gone import http_request

RAPPORT = Path(sys.executable).with_name("rapport")
PATIENCE = 1
# Seconds in which a stuck caller has filled all that lies between, been given up, and the next
# one been answered, on the busiest machine.
SOON = 60
# More than gRPC, TLS and the kernel take of it ahead.
LONG = {"max_tokens": 4000, "ignore_eos": True, "logprobs": True, "top_logprobs": 5}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    ca = Authority(tmp_path_factory.mktemp("tls"))
    own = ca.issue("server")
    return TlsFiles(own.chain, own.key, ca.path)


@pytest.fixture(scope="module")
def serving(small_folder: Path, files: TlsFiles) -> Iterator[Serving]:
    """In the end every request is accounted for, and none was failed."""
    grpc_port, http_port = free_ports(2)
    settings = {
        "MODEL_FOLDER": small_folder,
        "SLOTS": 1,
        "READER_TIMEOUT": PATIENCE,
        "GRPC_PORT": grpc_port,
        "HTTP_PORT": http_port,
        "GRPC_TLS_CERT": files.chain,
        "GRPC_TLS_KEY": files.key,
        "HTTP_TLS_CERT": files.chain,
        "HTTP_TLS_KEY": files.key,
    }
    variables = {f"RAPPORT_{name}": str(value) for name, value in settings.items()}
    target = Target(f"https://127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}")
    trust = ssl.create_default_context(cafile=files.ca)
    # A small window of HTTP/2 that does not grow.
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 13)]
    credentials = grpc.ssl_channel_credentials(files.read().ca)
    with (
        Server(
            [str(RAPPORT), "serve"], os.environ | variables, f"{target.rest}/health", trust
        ) as server,
        httpx.Client(
            base_url=str(target.rest), timeout=SOON, verify=trust, trust_env=False
        ) as http,
        grpc.secure_channel(str(target.grpc), credentials, options) as channel,
    ):
        serving = Serving(server, target, Rest(http), Grpc(channel))
        yield serving
    assert serving.account() == (4, 2, 2, 0)


def narrow() -> socket.socket:
    """A socket that takes little ahead of its reader."""
    plain = socket.socket()
    plain.settimeout(10)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
    return plain


def test_stuck_over_https(serving: Serving, files: TlsFiles) -> None:
    """It is reset, and the next caller has the only slot."""
    parts = urlsplit(str(serving.target.rest))
    address = (str(parts.hostname), int(parts.port or 0))
    trust = ssl.create_default_context(cafile=files.ca)
    with narrow() as plain, trust.wrap_socket(plain, server_hostname=address[0]) as stuck:
        stuck.connect(address)
        stuck.sendall(http_request(chat(stream=True, **LONG)))
        assert stuck.recv(1 << 10).startswith(b"HTTP/1.1 200 OK")
        serving.rest.whole(chat())
        # Python's TLS makes an end like any other of a reset.
        with socket.socket(fileno=stuck.detach()) as bare, pytest.raises(ConnectionResetError):
            read_to_the_end(bare)


def read_to_the_end(connected: socket.socket) -> None:
    while connected.recv(1 << 16):
        pass


def test_stuck_over_grpc(serving: Serving) -> None:
    """It hears why once it reads on, and the next caller has the only slot meanwhile."""
    stuck = serving.rpc.stub.StreamChatCompletion(to_proto(chat(**LONG)))
    next(stuck)
    serving.rest.whole(chat())
    with pytest.raises(grpc.RpcError) as raised:
        list(stuck)
    assert raised.value.code() is grpc.StatusCode.ABORTED
    (info,) = (each for each in unpacked(raised.value) if isinstance(each, ErrorInfo))
    assert info.reason == "READER_STUCK"
