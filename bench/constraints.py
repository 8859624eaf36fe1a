"""What structured output costs: `python -m bench.constraints`.

Prints how long a schema takes to compile, cold and from the cache, how long a mask takes,
and tokens per second of one stream with and without a schema, interleaved, medians.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable

from rapport.models.importer import ensure
from rapport.models.onnx.precision import cpu_precision
from rapport.service.engine.config import EngineConfig
from rapport.service.engine.engine import Engine
from rapport.service.engine.request import GenerationRequest, SamplingParams
from rapport.service.engine.runtime.providers import choose_provider
from rapport.service.engine.sampling.constraint import Grammar
from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler
from rapport.service.structured_output.response_format import grammar_source
from rapport.v1.format_pb2 import ResponseFormat

ROUNDS = 9
TOKENS = 96
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 60},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 50},
    },
    "required": ["name", "age", "tags"],
}
QUESTION = "<|im_start|>user\nDescribe a person as JSON.<|im_end|>\n<|im_start|>assistant\n"


async def main() -> None:
    """Measures the default model on the CPU."""
    provider = choose_provider("cpu")
    folder = ensure("smollm2-135m-instruct", cpu_precision())
    engine = await asyncio.to_thread(Engine.load, folder, provider, EngineConfig(prefix_bytes=0))
    engine.start(lambda: None)
    grammar = compiled(engine)
    print(f"mask: {median_time(masking(grammar)) * 1e6:.0f} us per token")
    plain, held = await rates(engine, grammar)
    print(f"one stream: {plain:.1f} tokens/s free, {held:.1f} held to the schema")
    print(f"ratio: {held / plain:.2f}")
    await engine.stop()


def compiled(engine: Engine) -> Grammar:
    """Compiles the grammar of the schema, and prints how long that takes."""
    compiler = GrammarCompiler(engine.vocabulary, engine.spec.eos_token_ids)
    source = grammar_source(ResponseFormat(json_schema=json.dumps(SCHEMA)))
    if source is None:
        raise RuntimeError("a schema has a grammar")
    began = time.perf_counter()
    grammar = compiler.compile(source.text)
    cold = time.perf_counter() - began
    warm = median_time(lambda: compiler.compile(source.text))
    print(f"compile: {cold * 1e3:.1f} ms cold, {warm * 1e6:.0f} us from the cache")
    return grammar


def masking(grammar: Grammar) -> Callable[[], None]:
    """Computes a mask, and accepts a token that it allows."""
    constraint = grammar.start()

    def step() -> None:
        constraint.accept(int(constraint.allowed()[0]))

    return step


def median_time(work: Callable[[], object]) -> float:
    """The seconds that a call takes."""
    times = []
    for _ in range(30):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


async def rates(engine: Engine, grammar: Grammar) -> tuple[float, float]:
    """Tokens per second without and with the grammar."""
    free: list[float] = []
    held: list[float] = []
    for _ in range(ROUNDS):
        free.append(await rate(engine, None))
        held.append(await rate(engine, grammar))
    return statistics.median(free), statistics.median(held)


async def rate(engine: Engine, grammar: Grammar | None) -> float:
    request = GenerationRequest(
        tuple(engine.vocabulary.encode(QUESTION)),
        TOKENS,
        sampling=SamplingParams(temperature=0),
        ignore_eos=grammar is None,
        grammar=grammar,
    )
    async with engine.submit(request) as generation:
        deltas = aiter(generation)
        await anext(deltas)
        began = time.perf_counter()
        async for _ in deltas:
            pass
        return (generation.completion_tokens - 1) / (time.perf_counter() - began)


if __name__ == "__main__":
    asyncio.run(main())
