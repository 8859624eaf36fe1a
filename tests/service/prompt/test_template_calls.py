from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rapport.common.fair_threads import finish
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.errors import InvalidRequestError
from rapport.service.prompt.prompt_encoder import PromptEncoder
from rapport.service.prompt.template import ChatTemplate
from rapport.service.prompt.turns import Call, Conversation, Turn
from rapport.service.tools.call_format import FORMATS, GRANITE, HERMES, LLAMA, MISTRAL, CallFormat
from rapport.v1.message_pb2 import ChatMessage
from rapport.v1.tool_pb2 import FunctionCall, ToolCall
from tests.service.prompt import templates
from tests.service.requests import message, user

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
HI = Turn("user", "Hi")
ID = "call_5zyx"


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, SPECIAL)


def called(*ids: str) -> Turn:
    return Turn("assistant", "", tuple(Call("f", {"x": "é"}, id_) for id_ in ids))


@pytest.mark.parametrize(
    ("source", "form", "writes_calls"),
    [
        (templates.QWEN, HERMES, True),
        (templates.LLAMA, LLAMA, True),
        (templates.MISTRAL, MISTRAL, True),
        (templates.MISTRAL.replace("][", "] [ "), MISTRAL, True),
        (templates.MISTRAL_WITH_ARGUMENTS, FORMATS[2], True),
        (templates.GRANITE, GRANITE, False),
    ],
)
def test_formats_are_known_by_what_is_rendered(
    source: str, form: CallFormat, writes_calls: bool
) -> None:
    """A call in the template's own words is in one of the formats, or the template names one."""
    found = template(source)
    assert found.takes_tools
    assert found.call_format == form
    assert found.writes_calls == writes_calls


@pytest.mark.parametrize(
    "source", [templates.OTHER, templates.QWEN_CODER, templates.GEMMA, "{{ tools }}", "<tool_call>"]
)
def test_other_formats_are_not_taken_for_one(source: str) -> None:
    """Where calls are written otherwise, the system prompt tells of tools in the usual format."""
    found = template(source)
    assert not found.takes_tools
    assert not found.writes_calls
    assert found.call_format == HERMES


def test_ids_are_made_short_where_no_others_are_taken() -> None:
    """A call and its result have the same one; one that is short enough stays."""
    turns = [HI, called(ID), Turn("tool", "18", call_id=ID)]
    text = template(templates.MISTRAL).render(Conversation(turns, [TOOL]))
    before, _, after = text.partition('"id": "')
    short = after[:9]
    assert before.endswith('[TOOL_CALLS][{"name": "f", "arguments": {"x": "é"}, ')
    assert (
        after[9:] == f'"}}]</s>[TOOL_RESULTS]{{"content": 18, "call_id": "{short}"}}[/TOOL_RESULTS]'
    )
    assert short.isalnum()
    text = template(templates.MISTRAL).render(Conversation([HI, called("abcdefghi")], [TOOL]))
    assert '"id": "abcdefghi"' in text
    text = template(templates.MISTRAL_WITH_ARGUMENTS).render(Conversation([HI, called(ID)], [TOOL]))
    assert f'[TOOL_CALLS]f[CALL_ID]{ID}[ARGS]{{"x": "é"}}' in text


def test_a_template_may_refuse_calls() -> None:
    """Several at once, for example; the caller hears why."""
    llama = template(templates.LLAMA)
    assert '{"name": "f", "parameters": {"x": "é"}}' in llama.render(
        Conversation([HI, called(ID)], [TOOL])
    )
    with pytest.raises(InvalidRequestError, match="only supports single tool-calls"):
        llama.render(Conversation([HI, called(ID, ID)], [TOOL]))


def test_calls_are_written_where_the_template_leaves_them_out(cpu_folder: Path) -> None:
    """They stand in the text, in the format that the template asks for."""
    vocabulary = Vocabulary.read(cpu_folder, 49152)
    encoder = PromptEncoder(template(templates.GRANITE), vocabulary, 2000)
    assert encoder.call_format == GRANITE
    call = ToolCall(id=ID, function=FunctionCall(name="f", arguments='{"x": 1}'))
    said = ChatMessage(role=message("assistant", "").role, tool_calls=[call])
    tokens = finish(encoder.encode([user("Hi"), said], tools=[TOOL]))
    text = vocabulary.spell(tokens)
    assert '"name": "f"' in text
    assert text.endswith('<|end_of_role|><|tool_call|>[{"name": "f", "arguments": {"x": 1}}]')


RECORDED = json.loads((Path(__file__).parent / "transformers_prompts.json").read_text())


@pytest.mark.parametrize("family", templates.FAMILIES)
def test_prompts_are_those_of_transformers(family: str) -> None:
    """With and without tools and calls, in the contents that the template takes, or refused."""
    found = ChatTemplate(templates.FAMILIES[family], templates.SPECIAL_TOKENS)
    parts = " in parts" if family == "SmolVLM" else ""
    for name, messages in RECORDED["conversations"].items():
        for tools, suffix in (((), ""), ((RECORDED["tool"],), " with tools")):
            conversation = Conversation([turn_of(each) for each in messages], tools)
            try:
                prompt = found.render(conversation)
            except InvalidRequestError:
                prompt = None
            assert prompt == RECORDED["prompts"][family][name + suffix + parts]


def turn_of(said: dict[str, Any]) -> Turn:
    calls = tuple(
        Call(each["function"]["name"], each["function"]["arguments"], each["id"])
        for each in said.get("tool_calls", ())
    )
    return Turn(said["role"], said["content"], calls, said.get("tool_call_id", ""))
