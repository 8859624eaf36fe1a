from __future__ import annotations

from dataclasses import replace

import pytest

from rapport.service.engine.config import EngineConfig
from rapport.service.engine.engine import Engine
from rapport.service.engine.request import SamplingParams
from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler
from tests.service.engine.fake import END, FakeRunner, byte_vocabulary, fake_spec, greedy

VOCABULARY = byte_vocabulary()


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(
    ("source", "tokens"), [(r"start: /[a-z]*/", [20]), (r"start: /[a-z]{7}/", [7, 8])]
)
async def test_end_tokens_that_are_ignored(source: str, tokens: list[int], n: int) -> None:
    """Under a grammar `ignore_eos` avoids the end of a turn, until nothing else is allowed."""
    grammar = GrammarCompiler(VOCABULARY, [END]).compile(source)
    wanted = SamplingParams(temperature=0, logit_bias={END: 100.0})
    request = replace(greedy("ab", 20, n=n, ignore_eos=True), grammar=grammar, sampling=wanted)
    engine = Engine(FakeRunner(), fake_spec(), VOCABULARY, EngineConfig())
    engine.start(lambda: None)
    counts = dict.fromkeys(range(n), 0)
    async with engine.submit(request) as generation:
        async for delta in generation:
            counts[delta.index] += len(delta.token_ids)
    await engine.stop()
    assert set(counts.values()) <= set(tokens)
