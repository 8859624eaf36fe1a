"""The private names of grpcio that the service relies on.

If a test here fails after grpcio was updated, read the docstring of
`rapport.service.interceptors.grpc_internals`: it names the files of grpcio to look at.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from grpc._cython import cygrpc

from rapport.service.interceptors.grpc_internals import LOGGER, SEND_ERROR, mute_send_errors


@pytest.fixture(autouse=True)
def muted() -> Iterator[None]:
    """Takes the filter away again, where this test was the first to set it."""
    logger = logging.getLogger(LOGGER)
    before = list(logger.filters)
    mute_send_errors()
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
