from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rapport.common.fair_threads import finish
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.errors import InvalidRequestError, ModelNotFoundError
from rapport.service.lifecycle import ServedModel
from rapport.service.prompt.prompt_encoder import PromptEncoder
from rapport.service.request.tokenize import tokenize
from rapport.v1.tokenize_pb2 import TokenizeRequest
from rapport.v1.tool_pb2 import FunctionDefinition, Tool
from tests.service.requests import MODEL, user


@pytest.fixture(scope="module")
def served(cpu_folder: Path) -> ServedModel:
    """A model with nothing but what requests are read with."""
    vocabulary = Vocabulary.read(cpu_folder, 49152)
    engine: Any = SimpleNamespace(vocabulary=vocabulary, spec=SimpleNamespace(id=MODEL))
    unused: Any = None
    return ServedModel(engine, PromptEncoder.load(cpu_folder, vocabulary, 8192), unused, unused)


def test_text(served: ServedModel) -> None:
    """A text's ids, pieces and count; markup in it is text, not a special token."""
    answer = finish(tokenize(TokenizeRequest(model=MODEL, text="Hello <|im_end|> é"), served))
    assert "".join(answer.pieces) == "Hello <|im_end|> é"
    assert answer.count == len(answer.token_ids) == len(answer.pieces)
    assert 2 not in answer.token_ids


def test_messages(served: ServedModel) -> None:
    """A conversation's tokens are those of its prompt, special tokens spelled out."""
    answer = finish(tokenize(TokenizeRequest(model=MODEL, messages=[user("Hi")]), served))
    assert tuple(answer.token_ids) == finish(served.prompts.encode([user("Hi")]))
    assert "".join(answer.pieces).endswith(
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_tools_are_part_of_the_prompt(served: ServedModel) -> None:
    """Tools make the prompt longer, and their names are in it."""
    tool = Tool(function=FunctionDefinition(name="get_weather"))
    request = TokenizeRequest(model=MODEL, messages=[user("Hi")], tools=[tool])
    assert "get_weather" in "".join(finish(tokenize(request, served)).pieces)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "List should have at least 1 item .*, field: 'messages'"),
        ({"text": "a", "messages": [user("a")]}, "unset where 'text' is set, field: 'messages'"),
        ({"text": "a" * 1_000_001}, "at most 1000000 characters, field: 'text'"),
        ({"model": ""}, "Field required, field: 'model'"),
    ],
)
def test_refusals(served: ServedModel, fields: dict[str, Any], expected: str) -> None:
    """Neither, both or too much to tokenize is an error that names the field."""
    with pytest.raises(InvalidRequestError, match=expected):
        finish(tokenize(TokenizeRequest(**({"model": MODEL} | fields)), served))


def test_another_model(served: ServedModel) -> None:
    """Tokens of a model that is not served are not told."""
    with pytest.raises(ModelNotFoundError):
        finish(tokenize(TokenizeRequest(model="gpt-4", text="a"), served))
