from __future__ import annotations

from typing import Any

import pytest

from rapport.service.engine.request import SamplingParams, Tier
from rapport.service.request.options import LogprobsOptions
from rapport.service.request.parse import ChatRequest, parse_chat_request
from rapport.v1.chat_pb2 import StopList, StopSequences
from rapport.v1.logprobs_pb2 import LogprobsRequest
from tests.service.requests import chat


def parsed(**fields: Any) -> ChatRequest:
    request = chat(**fields)
    return parse_chat_request(request, vocabulary_size=1000, streaming=False)


def test_omitted_sampling_fields_have_the_contracts_defaults() -> None:
    """What a request does not say changes nothing in sampling."""
    assert parsed().sampling == SamplingParams()


def test_a_models_defaults_hold_where_a_request_says_nothing() -> None:
    """What a request says goes first, a zero too."""
    request = chat(temperature=0.0)
    defaults = {"temperature": 0.7, "top_k": 20}
    chosen = parse_chat_request(
        request, vocabulary_size=1000, streaming=False, sampling_defaults=defaults
    )
    assert chosen.sampling == SamplingParams(temperature=0.0, top_k=20)


def test_sampling_fields() -> None:
    """Every sampling field arrives, zeros among them."""
    sampling = SamplingParams(
        temperature=0.0,
        top_p=0.5,
        top_k=7,
        min_p=0.1,
        typical_p=0.9,
        repetition_penalty=1.1,
        frequency_penalty=-1.0,
        presence_penalty=2.0,
        logit_bias={3: -100.0},
        seed=0,
    )
    fields = {name: getattr(sampling, name) for name in SamplingParams.__slots__}
    assert parsed(**fields).sampling == sampling


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (None, ()),
        (StopSequences(text="a"), ("a",)),
        (StopSequences(list=StopList(items=["a", "b"])), ("a", "b")),
    ],
)
def test_stop(stop: StopSequences | None, expected: tuple[str, ...]) -> None:
    """One stop text and a list of them arrive alike."""
    assert parsed(stop=stop).stop == expected


def test_service_tiers() -> None:
    """auto is the ordinary one."""
    tiers = {
        None: Tier.DEFAULT,
        "SERVICE_TIER_AUTO": Tier.DEFAULT,
        "SERVICE_TIER_DEFAULT": Tier.DEFAULT,
        "SERVICE_TIER_FLEX": Tier.FLEX,
        "SERVICE_TIER_PRIORITY": Tier.PRIORITY,
    }
    for name, tier in tiers.items():
        assert parsed(service_tier=name).tier is tier


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"logprobs": LogprobsRequest(enabled=False)}, None),
        ({"logprobs": LogprobsRequest(enabled=True)}, LogprobsOptions(0)),
        ({"logprobs": LogprobsRequest(enabled=True), "top_logprobs": 4}, LogprobsOptions(4)),
        ({"logprobs": LogprobsRequest(count=0)}, LogprobsOptions(0, legacy=True)),
        ({"logprobs": LogprobsRequest(count=5)}, LogprobsOptions(5, legacy=True)),
    ],
)
def test_logprobs(fields: dict[str, Any], expected: LogprobsOptions | None) -> None:
    """Both spellings say whether and with how many alternatives."""
    assert parsed(**fields).logprobs == expected
