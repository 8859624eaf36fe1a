"""Compiled grammars take a bounded amount of memory, and each caller leaves room for others."""

from __future__ import annotations

from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler
from rapport.service.structured_output.grammar_memory import GrammarMemory


def test_a_caller_may_have_half(compiler: GrammarCompiler) -> None:
    """One caller may hold as much as is free, which leaves room for the next one."""
    memory = GrammarMemory(max_bytes=100)
    grammar = compiler.compile('start: "half"')
    memory.add(grammar, "one", 50)
    assert not memory.has_room("one", 1)
    assert memory.has_room("two", 50)
    assert not memory.has_room("two", 51)


def test_a_grammar_that_is_gone_is_not_counted(compiler: GrammarCompiler) -> None:
    """What nobody uses or keeps any more takes no memory."""
    memory = GrammarMemory(max_bytes=100)
    grammar = compiler.compile('start: "gone"')
    memory.add(grammar, "one", 50)
    compiler.forget_all()
    assert not memory.has_room("one", 50)
    del grammar
    assert memory.has_room("one", 100)


def test_a_grammar_counts_once(compiler: GrammarCompiler) -> None:
    """A grammar that several callers use is held by the first."""
    memory = GrammarMemory(max_bytes=100)
    grammar = compiler.compile('start: "shared"')
    memory.add(grammar, "one", 50)
    memory.add(grammar, "two", 50)
    assert memory.has_room("two", 50)
