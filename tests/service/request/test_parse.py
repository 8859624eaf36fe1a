from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.service.engine.request import SamplingParams, Tenant, Tier
from rapport.service.errors import InvalidRequestError, PromptTooLongError
from rapport.service.request.parse import Defaults, generation_request, prediction_of
from rapport.v1.chat_pb2 import StopList, StopSequences
from tests.service.engine.fake import byte_vocabulary
from tests.service.requests import chat

DEFAULTS = Defaults(max_tokens=50, stop_in_output=True)
ERROR = "CONTEXT_LENGTH_EXCEEDED_BEHAVIOR_ERROR"


def max_tokens(prompt: int, **fields: object) -> int:
    tokens = tuple(range(prompt))
    return generation_request(chat(**fields), tokens, 100, DEFAULTS).max_tokens


@pytest.mark.parametrize(
    ("prompt", "fields", "expected"),
    [
        (10, {}, 50),
        (10, {"max_tokens": 20}, 20),
        (10, {"max_completion_tokens": 20}, 20),
        (10, {"max_tokens": 200}, 90),
        (70, {}, 30),
        (99, {}, 1),
        (10, {"max_tokens": 90, "context_length_exceeded_behavior": ERROR}, 90),
        (70, {"context_length_exceeded_behavior": ERROR}, 30),
    ],
)
def test_max_tokens(prompt: int, fields: dict[str, object], expected: int) -> None:
    """max_tokens is what was asked, else the default, and never more than fits."""
    assert max_tokens(prompt, **fields) == expected


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_error_where_it_does_not_fit(field: str) -> None:
    """A caller who wants to hear of it learns prompt tokens, max_tokens and context length."""
    told = f"The prompt's 10 tokens and {field} 91 exceed the model's context length of 100"
    with pytest.raises(InvalidRequestError, match=told):
        max_tokens(10, context_length_exceeded_behavior=ERROR, **{field: 91})


@pytest.mark.parametrize("behavior", ["CONTEXT_LENGTH_EXCEEDED_BEHAVIOR_TRUNCATE", ERROR])
def test_prompt_that_fills_the_context(behavior: str) -> None:
    """A prompt that leaves no room is refused, whatever the behaviour."""
    with pytest.raises(
        PromptTooLongError, match=r"too long: 100, model maximum context length: 99$"
    ):
        max_tokens(100, context_length_exceeded_behavior=behavior)


@given(prompt=st.integers(1, 99), asked=st.integers(1, 2**31 - 1))
def test_always_fits(prompt: int, asked: int) -> None:
    """Prompt and max_tokens fit the context together."""
    assert 1 <= max_tokens(prompt, max_tokens=asked) <= 100 - prompt


def test_omitted_sampling_fields_have_the_contracts_defaults() -> None:
    """What a request does not say changes nothing in sampling."""
    assert generation_request(chat(), (1,), 100, DEFAULTS).sampling == SamplingParams()


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
    assert generation_request(chat(**fields), (1,), 100, DEFAULTS).sampling == sampling


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
    assert generation_request(chat(stop=stop), (1,), 100, DEFAULTS).stop == expected


@pytest.mark.parametrize(("most", "n"), [(0, 128), (150, 3)])
def test_choices_within_their_bound(most: int, n: int) -> None:
    """As many choices are made as have room together."""
    defaults = Defaults(50, max_request_tokens=most)
    assert generation_request(chat(n=n), (1,), 100, defaults).n == n


def test_choices_beyond_their_bound() -> None:
    """n times the tokens that a choice may have, once they fit the context, is bounded."""
    defaults = Defaults(50, max_request_tokens=297)
    assert generation_request(chat(n=3, max_tokens=1000), (1,), 100, defaults).max_tokens == 99
    told = "4 choices of 99 tokens are more than 297 tokens together, field: 'n'"
    with pytest.raises(InvalidRequestError, match=told):
        generation_request(chat(n=4, max_tokens=1000), (1,), 100, defaults)


def test_the_rest() -> None:
    """n, ignore_eos and the server's way with stop texts arrive."""
    request = generation_request(chat(n=3, ignore_eos=True), (1,), 100, Defaults(50, False))
    assert (request.n, request.ignore_eos, request.stop_in_output) == (3, True, False)
    assert generation_request(chat(), (1,), 100, DEFAULTS).n == 1


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
        request = chat(service_tier=name)
        assert generation_request(request, (1,), 100, DEFAULTS).tier is tier


def test_keys_share_prefixes_unless_told_not_to() -> None:
    """Isolated, neither the same isolation key nor a crafted one reaches another key's."""

    def namespace(isolation: str, key_id: str, *, isolate: bool) -> str:
        request = chat(prompt_cache_isolation_key=isolation)
        defaults = Defaults(isolate_keys=isolate)
        return generation_request(request, (1,), 100, defaults, Tenant(key_id)).namespace

    assert namespace("a", "k1", isolate=False) == namespace("a", "k2", isolate=False)
    assert namespace("a", "k1", isolate=True) != namespace("a", "k2", isolate=True)
    assert namespace("", "k1", isolate=True) != namespace("k1", "k2", isolate=True)


@pytest.mark.parametrize(
    ("fields", "prediction"),
    [
        ({}, b""),
        ({"speculation": {"text": "so"}}, b"so"),
        ({"speculation": {"token_ids": {"items": [66, -1, 10**6, 67]}}}, None),
        ({"prediction": {"content": {"text": "so"}}}, b"so"),
    ],
)
def test_prediction(fields: dict[str, object], prediction: bytes | None) -> None:
    """What is foretold as text or tokens; ids that no token has are left out."""
    vocabulary = byte_vocabulary()
    wanted = (66, 67) if prediction is None else tuple(vocabulary.encode_text(prediction.decode()))
    assert prediction_of(chat(**fields), vocabulary) == wanted
