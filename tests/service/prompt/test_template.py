from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

import pytest

from rapport.common.model_spec import ModelSpec
from rapport.service.errors import InvalidRequestError
from rapport.service.prompt.template import ChatTemplate
from rapport.service.prompt.turns import Call, Conversation, Turn
from tests.service.prompt.templates import GEMMA, OTHER, QWEN

HI = Turn("user", "Hi")
ASKED = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
DEFAULT = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
    "trained by Hugging Face<|im_end|>\n"
)


@pytest.fixture
def template(cpu_folder: Path) -> ChatTemplate:
    return ChatTemplate.read(cpu_folder)


def test_default_system_prompt(template: ChatTemplate) -> None:
    """Without a system message the template's own comes first."""
    assert template.render(Conversation([HI])) == DEFAULT + ASKED


def test_system_prompt(template: ChatTemplate) -> None:
    """A system message takes the place of the template's own."""
    text = template.render(Conversation([Turn("system", "Be brief."), HI]))
    assert text == "<|im_start|>system\nBe brief.<|im_end|>\n" + ASKED


def test_empty_system_prompt(template: ChatTemplate) -> None:
    """An empty system message means no system prompt at all."""
    assert template.render(Conversation([Turn("system", ""), HI])) == ASKED


def test_only_the_first_empty_system_message_is_special(template: ChatTemplate) -> None:
    """An empty system message later on stays as it is."""
    text = template.render(Conversation([HI, Turn("system", "")]))
    assert text.startswith(DEFAULT)
    assert "<|im_start|>system\n<|im_end|>" in text


def test_conversation(template: ChatTemplate) -> None:
    """All turns are written in order, whatever their roles."""
    text = template.render(Conversation([HI, Turn("assistant", "Yes?"), Turn("tool", "42")]))
    assert text == (
        DEFAULT + "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYes?<|im_end|>\n"
        "<|im_start|>tool\n42<|im_end|>\n<|im_start|>assistant\n"
    )


def test_refusal() -> None:
    """A template may refuse a conversation; the caller hears why."""
    template = ChatTemplate("{{ raise_exception('Roles must alternate') }}")
    with pytest.raises(InvalidRequestError, match="refuses the conversation: Roles must alternate"):
        template.render(Conversation([HI]))


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'system'}) }}",
    ],
)
def test_sandbox(source: str) -> None:
    """A template gets at nothing but the conversation, and changes nothing."""
    with pytest.raises(InvalidRequestError):
        ChatTemplate(source).render(Conversation([HI]))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% if true %}\n  {% if true %}x{% endif %}\n{% endif %}", "x"),
        ("{{ {'a': '<é>'} | tojson }}", '{"a": "<é>"}'),
        ("{% for m in [1, 2] %}{% break %}{% endfor %}", ""),
        ("{% generation %}{% set x = 'said' %}{{ x }}{% endgeneration %}", "said"),
        ("{{ strftime_now('%Y') }}", str(datetime.now().astimezone().year)),
        ("{{ bos_token }}{{ messages[0].content }}", "Hi"),
        ("{{ documents is none }}", "True"),
        ("{{ [1] | tojson(indent=1, separators=(',', ':')) }}", "[\n 1\n]"),
    ],
)
def test_what_templates_rely_on(source: str, text: str) -> None:
    """Templates find what Hugging Face's renderer gives them."""
    assert ChatTemplate(source).render(Conversation([HI])) == text


def test_tools_in_the_template() -> None:
    """A template that takes tools gets them, and none where there are none."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"é": "<"}}}
    text = ChatTemplate(QWEN).render(Conversation([HI], [tool]))
    assert (
        "You are Qwen.\n\n# Tools\n\n<tools>\n"
        '{"type": "function", "function": {"name": "f", "parameters": {"é": "<"}}}\n</tools>'
    ) in text
    assert "# Tools" not in ChatTemplate(QWEN).render(Conversation([HI]))
    assert "[" not in ChatTemplate(OTHER).render(Conversation([HI]))


def test_a_template_for_tools_is_read(cpu_folder: Path, tmp_path: Path) -> None:
    """It is in model.json; without one the only template is taken."""
    for name in ("model.json", "chat_template.jinja"):
        shutil.copy(cpu_folder / name, tmp_path)
    both = [ChatTemplate.read(tmp_path, with_tools=each) for each in (False, True)]
    assert [each.render(Conversation([HI])) for each in both] == [DEFAULT + ASKED] * 2
    ModelSpec.read(tmp_path).model_copy(update={"tool_template": "tools"}).write(tmp_path)
    both = [ChatTemplate.read(tmp_path, with_tools=each) for each in (False, True)]
    assert [each.render(Conversation([HI])) for each in both] == [DEFAULT + ASKED, "tools"]


def test_empty_system_prompt_with_tools() -> None:
    """Tools in the template stand without its own system prompt where that is not wanted."""
    text = ChatTemplate(QWEN).render(Conversation([Turn("system", ""), HI], [{"name": "f"}]))
    assert text.startswith("<|im_start|>system\n\n\n# Tools\n\n<tools>\n{")


@pytest.mark.parametrize(("source", "takes"), [(QWEN, True), (OTHER, False), (GEMMA, False)])
def test_takes_tools(source: str, takes: bool) -> None:
    """A template tells of tools itself if it has calls written in the form that is read."""
    assert ChatTemplate(source).takes_tools is takes


CALLED = Turn("assistant", "", (Call("f", {"x": ["<é>"]}),))


def test_calls_in_the_template() -> None:
    """A template that takes tools writes calls itself, of arguments that are an object."""
    text = ChatTemplate(QWEN).render(Conversation([HI, CALLED], [{"name": "f"}]))
    assert (
        '\n<tool_call>\n{"name": "f", "arguments": {"x": ["<é>"]}}\n</tool_call><|im_end|>' in text
    )


def test_arguments_as_text() -> None:
    """A template that writes arguments as they are gets them as JSON text."""
    as_text = QWEN.replace("call.function.arguments | tojson", "call.function.arguments")
    template = ChatTemplate(as_text)
    assert template.takes_tools
    conversation = Conversation([HI, CALLED], [{"name": "f"}])
    assert template.render(conversation) == ChatTemplate(QWEN).render(conversation)


PARTS = """{%- for message in messages %}
    {{- message.role + ':' }}
    {%- for part in message.content %}
        {%- if part.type == 'text' %}{{ ' ' + part.text }}{% endif %}
    {%- endfor %}
{%- endfor %}
"""
EITHER = PARTS.replace(
    "{%- for part in",
    "{%- if message.content is string %}{{ message.content }}{% endif %}{% for part in",
)


@pytest.mark.parametrize(("source", "text"), [(PARTS, "user: Hi"), (EITHER, "user:Hi")])
def test_contents_as_parts(source: str, text: str) -> None:
    """A template that walks over the parts of a content gets parts; one that takes text, text."""
    assert ChatTemplate(source).render(Conversation([HI])) == text


def test_refused_probe() -> None:
    """A template that refuses to be tried does not take tools."""
    assert not ChatTemplate("{{ tools }}{{ raise_exception('no') }}").takes_tools


def test_system_prompt_of_the_template(template: ChatTemplate) -> None:
    """What a template says by itself is known, as is that it says nothing."""
    assert template.system_prompt in DEFAULT
    assert template.system_prompt.startswith("You are a helpful AI assistant named SmolLM")
    assert not template.takes_tools
    assert ChatTemplate(OTHER).system_prompt == ""
    with pytest.raises(InvalidRequestError, match="System role not supported"):
        _ = ChatTemplate(GEMMA).system_prompt


SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


def test_special_tokens_are_texts() -> None:
    """A template writes them by their names, as in transformers."""
    template = ChatTemplate("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", SPECIAL)
    assert template.render(Conversation([HI])) == f"<s>{HI.content}</s>"


@pytest.mark.parametrize(
    "source", ["{{ messages[0].content }}", "{{ bos_token }}{{ messages[0].content }}"]
)
def test_a_prompt_begins_with_bos_once(source: str) -> None:
    """Whether the template writes it or not."""
    template = ChatTemplate(source, SPECIAL, begins_with_bos=True)
    assert template.render(Conversation([HI])) == f"<s>{HI.content}"
    empty = Conversation([Turn("system", ""), HI])
    assert template.render(empty).count("<s>") == 1
