"""A compiler for the real vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.structured_output.isolated_compiler import IsolatedCompiler
from tests.service.structured_output.sampling import ENDS, SIZE


@pytest.fixture(scope="session")
def vocabulary(cpu_folder: Path) -> Vocabulary:
    return Vocabulary.read(cpu_folder, SIZE)


@pytest.fixture(scope="session")
def compiler(vocabulary: Vocabulary) -> GrammarCompiler:
    return GrammarCompiler(vocabulary, ENDS)


@pytest.fixture(scope="session")
def isolated(cpu_folder: Path) -> Iterator[IsolatedCompiler]:
    """Processes that compile for the same vocabulary."""
    with closing(IsolatedCompiler(cpu_folder / "tokenizer.json", SIZE, ENDS)) as running:
        yield running
