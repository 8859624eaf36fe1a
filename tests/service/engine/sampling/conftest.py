"""Grammars for the real vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest

from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler
from rapport.service.engine.text.vocabulary import Vocabulary
from tests.service.engine.sampling.grammars import ENDS, SIZE


@pytest.fixture(scope="module")
def tokenizer_json(cpu_folder: Path) -> str:
    return (cpu_folder / "tokenizer.json").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def vocabulary(tokenizer_json: str) -> Vocabulary:
    return Vocabulary(tokenizer_json, SIZE)


@pytest.fixture(scope="module")
def compiler(tokenizer_json: str) -> GrammarCompiler:
    return GrammarCompiler(tokenizer_json, SIZE, ENDS)
