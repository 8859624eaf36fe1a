from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from rapport.service import errors
from rapport.service.engine.errors import (
    Bound,
    EngineError,
    EngineUnavailableError,
    OverloadedError,
    StepFailedError,
)
from rapport.service.errors import FieldViolation, ServiceError
from rapport.service.rpc.grpc_status import KINDS, status_of


def subclasses(base: type[Exception]) -> set[type[Exception]]:
    found = set(base.__subclasses__())
    return found.union(*map(subclasses, found))


def details(status: Status) -> dict[type, Any]:
    unpacked: dict[type, Any] = {}
    for packed in status.details:
        for kind in (ErrorInfo, BadRequest, QuotaFailure, RetryInfo):
            detail = kind()
            if packed.Unpack(detail):
                unpacked[kind] = detail
    return unpacked


@pytest.mark.parametrize("error", sorted(subclasses(EngineError), key=str))
def test_every_engine_error_has_a_row(error: type[Exception]) -> None:
    """No error of the engine reaches a caller by accident."""
    assert error in KINDS


@pytest.mark.parametrize("error", sorted(subclasses(ServiceError), key=str))
def test_every_service_error_has_a_row(error: type[Exception]) -> None:
    """No error of the service reaches a caller by accident."""
    assert error in KINDS


@pytest.mark.parametrize("kind", KINDS.values())
def test_reasons_are_well_formed(kind: Any) -> None:
    """A reason is in upper case with underscores, as google.rpc asks."""
    assert kind.reason.isupper()
    assert kind.reason.replace("_", "").isalpha()


def test_one_violation() -> None:
    """One violation is reported with its field, in the text and in the details."""
    violation = FieldViolation("temperature", "Input should be less than or equal to 2")
    status = status_of(errors.InvalidRequestError([violation]))
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert status.message == "Input should be less than or equal to 2, field: 'temperature'"
    (violation_sent,) = details(status)[BadRequest].field_violations
    assert (violation_sent.field, violation_sent.description) == (
        violation.field,
        violation.description,
    )
    assert details(status)[ErrorInfo].domain == "rapport.v1"


def test_several_violations() -> None:
    """Several violations are counted and listed."""
    status = status_of(
        errors.InvalidRequestError([FieldViolation("a", "Bad"), FieldViolation("b", "Worse")])
    )
    assert status.message == "2 request validation errors: Bad, field: 'a'; Worse, field: 'b'"
    assert [v.field for v in details(status)[BadRequest].field_violations] == ["a", "b"]


def test_no_end_of_violations() -> None:
    """Of very many violations some are listed, so that the status fits the trailers."""
    status = status_of(
        errors.InvalidRequestError([FieldViolation(f"f{i}", "Bad") for i in range(5000)])
    )
    assert status.message.startswith("5000 request validation errors: Bad, field: 'f0'; ")
    assert status.message.endswith("; and 4990 more")
    assert len(details(status)[BadRequest].field_violations) == 10
    assert status.ByteSize() < 2000


@given(
    st.lists(
        st.builds(
            FieldViolation,
            field=st.text(st.sampled_from("a%ä漢😀\ud800\n"), max_size=4).map(lambda t: t * 700),
            description=st.text(st.sampled_from("b %ä漢😀\udfff"), max_size=4).map(
                lambda t: t * 700
            ),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_a_status_fits_the_trailers(violations: list[FieldViolation]) -> None:
    """Whatever callers name their fields: clients read no more than 8 KiB."""
    status = status_of(errors.InvalidRequestError(violations))
    message = quote(status.message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")
    details_bin = base64.b64encode(status.SerializeToString())
    assert len(message) + len(details_bin) < 8000
    first, *_ = details(status)[BadRequest].field_violations
    assert first.field.startswith(violations[0].field[:1].replace("\ud800", "\\ud800"))
    assert str(len(violations)) in status.message or len(violations) == 1


def test_prompt_too_long() -> None:
    """The text that clients look for stands alone, and the length is one below the context."""
    status = status_of(errors.PromptTooLongError(9000, 8192))
    assert status.message == "The prompt is too long: 9000, model maximum context length: 8191"
    assert details(status)[BadRequest].field_violations[0].field == "messages"


def test_model_not_found() -> None:
    """An unknown model is reported in Fireworks' words and names the field."""
    status = status_of(errors.ModelNotFoundError())
    assert status.message == "Model not found, inaccessible, and/or not deployed"
    assert details(status)[ErrorInfo].metadata == {"param": "model"}


@pytest.mark.parametrize(
    ("error", "code", "seconds"),
    [
        (
            OverloadedError("full", Bound.REQUESTS, retry_after=2.5),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            2.5,
        ),
        (EngineUnavailableError("draining"), grpc.StatusCode.UNAVAILABLE, 1),
        (errors.NotReadyError("The model is loading", 3), grpc.StatusCode.UNAVAILABLE, 3),
    ],
)
def test_when_to_retry(error: Exception, code: grpc.StatusCode, seconds: float) -> None:
    """Where a retry helps, the status says when."""
    status = status_of(error)
    assert status.code == code.value[0]
    assert details(status)[RetryInfo].retry_delay.ToMilliseconds() == seconds * 1000


@pytest.mark.parametrize("error", [StepFailedError("ORT: /srv/secret"), KeyError("secret")])
def test_insides_stay_inside(error: Exception) -> None:
    """An internal error is not described to callers."""
    status = status_of(error)
    assert status.code == grpc.StatusCode.INTERNAL.value[0]
    assert "secret" not in str(status)


def test_limit_of_a_key() -> None:
    """A limit is reported with its owner, and with the wait to the millisecond."""
    status = status_of(errors.RateLimitedError("key:1234", "60 requests per minute", 0.047))
    assert status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert details(status)[ErrorInfo].reason == "RATE_LIMITED"
    (violation_sent,) = details(status)[QuotaFailure].violations
    assert (violation_sent.subject, violation_sent.description) == (
        "key:1234",
        "60 requests per minute",
    )
    assert details(status)[RetryInfo].retry_delay.ToMilliseconds() == 47
