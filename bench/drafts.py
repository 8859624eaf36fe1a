"""The gain of speculative decoding: `python -m bench.drafts`.

Prints tokens per second of one stream with and without drafts, measured in turns, the best of
each: for a text to repeat, for a text with a prediction, for an essay, which offers nothing to
draft from, and for documents with a schema.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path

from rapport.models.importer import ensure
from rapport.models.onnx.precision import cpu_precision
from rapport.service.engine.config import EngineConfig
from rapport.service.engine.engine import Engine
from rapport.service.engine.request import GenerationRequest, SamplingParams
from rapport.service.engine.runtime.providers import Provider, choose_provider
from rapport.service.engine.sampling.constraint import Grammar
from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler
from rapport.service.structured_output.response_format import grammar_source
from rapport.v1.format_pb2 import ResponseFormat

ROUNDS = 4
PASSAGE = """The lighthouse keeper climbed the stairs every evening at dusk. He carried a can of
oil, a cloth and a small brass key. At the top he wiped the lenses, filled the lamp and lit it.
Then he sat down by the window, opened his book and read until the ships had passed."""
PROPERTIES = {
    "customer_identification_number": {"type": "integer", "minimum": 0, "maximum": 99},
    "preferred_delivery_address": {"type": "string", "maxLength": 20},
    "subscription_renewal_status": {"enum": ["automatically_renewed", "cancelled_by_customer"]},
    "estimated_delivery_time_in_days": {"type": "integer", "minimum": 0, "maximum": 99},
}
SCHEMA = {"type": "object", "properties": PROPERTIES, "required": list(PROPERTIES)}


async def main() -> None:
    """Measures the default model on the CPU."""
    provider = choose_provider("cpu")
    folder = ensure("smollm2-135m-instruct", cpu_precision())
    plain, drafting = [await started(folder, provider, drafts=on) for on in (False, True)]
    for name, request in requests(plain).items():
        await compare(name, request, plain, drafting)
    await plain.stop()
    await drafting.stop()


async def started(folder: Path, provider: Provider, *, drafts: bool) -> Engine:
    config = EngineConfig(slots=1, prefix_bytes=0, drafts=drafts)
    engine = await asyncio.to_thread(Engine.load, folder, provider, config)
    engine.start(lambda: None)
    return engine


def requests(engine: Engine) -> dict[str, GenerationRequest]:
    """The requests, by name."""
    encode = engine.vocabulary.encode
    repeat = greedy_request(engine, f"Repeat this text exactly, word for word:\n{PASSAGE}")
    return {
        "repeat": repeat,
        "prediction": replace(repeat, prediction=tuple(encode(PASSAGE))),
        "essay": greedy_request(engine, "Write an essay about the sea."),
        "schema": replace(
            greedy_request(engine, "Describe an order as JSON."), grammar=grammar_of(engine)
        ),
    }


def greedy_request(engine: Engine, question: str) -> GenerationRequest:
    text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    prompt = tuple(engine.vocabulary.encode(text))
    return GenerationRequest(prompt, 96, sampling=SamplingParams(temperature=0))


def grammar_of(engine: Engine) -> Grammar:
    compiler = GrammarCompiler(engine.vocabulary, engine.spec.eos_token_ids)
    source = grammar_source(ResponseFormat(json_schema=json.dumps(SCHEMA)))
    if source is None:
        raise RuntimeError("a schema has a grammar")
    return compiler.compile(source.text)


async def compare(name: str, request: GenerationRequest, plain: Engine, drafting: Engine) -> None:
    """Prints the rates of a request, and whether both answers are the same."""
    rates = []
    same = True
    for _ in range(ROUNDS):
        (slow, wanted), (fast, given) = [await rate(e, request) for e in (plain, drafting)]
        rates.append((slow, fast))
        same &= wanted == given
    slow, fast = map(max, zip(*rates, strict=True))
    print(f"{name:10} {slow:6.1f} -> {fast:6.1f} tokens/s, {fast / slow:.2f} x, same text: {same}")


async def rate(engine: Engine, request: GenerationRequest) -> tuple[float, str]:
    """Tokens per second after the first token, and the text."""
    async with engine.submit(request) as generation:
        deltas = aiter(generation)
        text = (await anext(deltas)).text
        began = time.perf_counter()
        async for delta in deltas:
            text += delta.text
        return (generation.completion_tokens - 1) / (time.perf_counter() - began), text


if __name__ == "__main__":
    asyncio.run(main())
