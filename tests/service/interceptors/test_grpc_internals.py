"""The private names of grpcio that the service relies on.

If a test here fails after grpcio was updated, read the docstring of
`rapport.service.interceptors.grpc_internals`: it names the files of grpcio to look at.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import grpc
import pytest
from grpc._cython import cygrpc
from grpc_health.v1.health_pb2 import HealthCheckResponse

from rapport.service.interceptors.grpc_internals import LOGGER, SEND_ERROR, mute_callers_errors
from tests.fuzz import http2
from tests.service.requests import health

LIST_MODELS = "/rapport.v1.ModelService/ListModels"


@pytest.fixture(autouse=True)
def muted() -> Iterator[None]:
    """Takes the filter away again, where this test was the first to set it."""
    logger = logging.getLogger(LOGGER)
    before = list(logger.filters)
    mute_callers_errors()
    yield
    logger.filters[:] = before


def logged(caplog: pytest.LogCaptureFixture, error: Exception) -> list[str]:
    logging.getLogger(LOGGER).error("Unexpected", exc_info=error)
    return caplog.messages


def test_grpc_still_has_the_error(caplog: pytest.LogCaptureFixture) -> None:
    """What grpcio raises when a message cannot be sent has the name that is muted."""
    assert cygrpc.ExecuteBatchError.__name__ == SEND_ERROR
    assert logged(caplog, cygrpc.ExecuteBatchError("gone")) == []


def test_other_errors_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A fault of a servicer stays in the log."""
    assert logged(caplog, ValueError("a fault")) == ["Unexpected"]


def test_grpc_still_has_the_logger() -> None:
    """The logger is the one that grpcio itself uses."""
    assert cygrpc._LOGGER.name == LOGGER


@pytest.mark.parametrize("path", ["/\udcff", "/rapport.v1.ChatService/\udcc3(", "/", "x"])
async def test_path_that_nobody_registered(
    address: str, channel: grpc.aio.Channel, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A call of any path is refused by its status, and the server goes on."""
    sent = http2.OPENING + http2.request(1, path)
    answer = await asyncio.to_thread(http2.send, address, sent)
    assert b"Method not found!" in answer
    assert await health(channel) == HealthCheckResponse.NOT_SERVING
    assert caplog.messages == []


async def test_metadata_that_is_not_text(
    address: str, channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    """Bytes in a caller's metadata are no errors of the service."""
    sent = http2.OPENING + http2.request(1, LIST_MODELS, authorization="\udcff")
    answer = await asyncio.to_thread(http2.send, address, sent)
    assert b"grpc-status" in answer
    assert await health(channel) == HealthCheckResponse.NOT_SERVING
    assert "Traceback" not in caplog.text
