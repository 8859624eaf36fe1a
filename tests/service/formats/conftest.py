"""A compiler for the real vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.engine.constraint import GrammarCompiler
from service.engine.vocabulary import Vocabulary
from tests.service.formats.sampling import ENDS, SIZE


@pytest.fixture(scope="session")
def vocabulary(cpu_folder: Path) -> Vocabulary:
    return Vocabulary.read(cpu_folder, SIZE)


@pytest.fixture(scope="session")
def compiler(cpu_folder: Path) -> GrammarCompiler:
    text = (cpu_folder / "tokenizer.json").read_text(encoding="utf-8")
    return GrammarCompiler(text, SIZE, ENDS)
