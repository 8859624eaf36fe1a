"""Grammars for the real vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest

from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler
from rapport.service.engine.text.vocabulary import Vocabulary
from tests.service.engine.sampling.grammars import ENDS, SIZE


@pytest.fixture(scope="module")
def vocabulary(cpu_folder: Path) -> Vocabulary:
    return Vocabulary.read(cpu_folder, SIZE)


@pytest.fixture(scope="module")
def compiler(vocabulary: Vocabulary) -> GrammarCompiler:
    return GrammarCompiler(vocabulary, ENDS)
