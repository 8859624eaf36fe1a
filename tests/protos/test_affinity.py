"""Requests that share the beginning of their prompts have one affinity key."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from rapport.affinity import AFFINITY_HEADER, SESSION_HEADER, affinity_key
from rapport.v1.chat_pb2 import CreateChatCompletionRequest
from rapport.v1.completion_pb2 import CreateCompletionRequest
from rapport.v1.message_pb2 import Role
from rapport.v1.model_pb2 import ListModelsRequest
from tests.service.requests import chat

TURNS = (
    ("system", "Be brief."),
    ("user", "Name a colour."),
    ("assistant", "Red."),
    ("user", "More."),
)


def chat_of(*turns: tuple[str, str], **fields: Any) -> CreateChatCompletionRequest:
    request = CreateChatCompletionRequest(model="m", **fields)
    for role, text in turns:
        request.messages.add(role=Role.Value(f"ROLE_{role.upper()}")).content.text = text
    return request


def test_a_conversation_keeps_its_key() -> None:
    """Later turns do not change it; another system prompt, first turn, tool or model does."""
    key = affinity_key(chat_of(*TURNS[:2]))
    assert affinity_key(chat_of(*TURNS)) == key
    with_tool = chat_of(*TURNS)
    with_tool.tools.add().function.name = "f"
    others = [
        chat_of(("system", "Be long."), *TURNS[1:]),
        chat_of(TURNS[0], ("user", "Name a town."), *TURNS[2:]),
        with_tool,
        chat("Name a colour.", model="n"),
    ]
    assert len({key, *map(affinity_key, others)}) == 5


def test_what_names_the_key_first() -> None:
    """The cache key goes before the header, then the session, the user, and the prompt."""
    headers = {AFFINITY_HEADER: "a", SESSION_HEADER: "s"}
    asked = chat_of(*TURNS, prompt_cache_key="k", user="u")
    other = chat_of(("user", "Hello"), prompt_cache_key="k", user="v")
    assert affinity_key(asked, headers) == affinity_key(other)
    asked.ClearField("prompt_cache_key")
    assert affinity_key(asked, headers) == "a"
    del headers[AFFINITY_HEADER]
    assert affinity_key(asked, headers) == affinity_key(chat_of(), headers)
    by_user = affinity_key(asked)
    assert by_user == affinity_key(chat_of(user="u")) != affinity_key(chat_of(user="v"))
    asked.ClearField("user")
    assert affinity_key(asked) == affinity_key(chat_of(*TURNS)) != by_user


def test_keys_are_valid_headers() -> None:
    """Whatever a label says, what is sent is short and tells nothing of it."""
    key = affinity_key(chat_of(prompt_cache_key="naïve ☃\n" * 100))
    assert len(key) == 32
    assert set(key) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    ("prompt", "longer"),
    [
        ({"text": "a" * 300}, {"text": "a" * 300 + "b"}),
        ({"texts": {"items": ["a"]}}, {"texts": {"items": ["a", "b"]}}),
        ({"token_ids": {"items": [7] * 300}}, {"token_ids": {"items": [7] * 301}}),
        (
            {"token_lists": {"items": [{"items": [7]}]}},
            {"token_lists": {"items": [{"items": [7]}, {"items": [8]}]}},
        ),
    ],
)
def test_prompts_that_begin_alike(prompt: Any, longer: Any) -> None:
    """A completion's key is of the beginning of its prompt, or of the first of several."""
    key = affinity_key(CreateCompletionRequest(model="m", prompt=prompt))
    assert affinity_key(CreateCompletionRequest(model="m", prompt=longer)) == key
    assert affinity_key(CreateCompletionRequest(model="m", prompt={"text": "b"})) != key


def test_requests_of_other_apis() -> None:
    """They have the key of a header, or none, whatever their fields are called."""
    assert affinity_key(ListModelsRequest()) == ""
    assert affinity_key(ListModelsRequest(), {AFFINITY_HEADER: "a"}) == "a"


def test_messages_made_from_descriptors() -> None:
    """What the gateway makes by reflection has the same keys as what the stubs make."""
    pool = DescriptorPool()
    _add(CreateChatCompletionRequest.DESCRIPTOR.file, pool, set())
    kind = pool.FindMessageTypeByName(CreateChatCompletionRequest.DESCRIPTOR.full_name)
    request = chat_of(*TURNS)
    reflected = GetMessageClass(kind).FromString(request.SerializeToString())
    assert affinity_key(reflected) == affinity_key(request)


def _add(file: Any, pool: DescriptorPool, done: set[str]) -> None:
    if file.name not in done:
        done.add(file.name)
        for dependency in file.dependencies:
            _add(dependency, pool, done)
        pool.AddSerializedFile(file.serialized_pb)
