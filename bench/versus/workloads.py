"""What the servers are asked to do, and what is measured of it."""

from __future__ import annotations

from difflib import SequenceMatcher
from itertools import count

import jsonschema_rs
import orjson

from bench.errors import BenchError
from bench.load import Closed
from bench.measure import Record, Summary
from bench.versus.asks import (
    SCHEMA,
    TEXT,
    Body,
    Message,
    alone,
    chat,
    document,
    mixed,
    repeat,
    said,
    under,
    words,
)
from bench.versus.figures import Measured, Stage, facts, median, percentile, sound
from bench.versus.wire import Answer

SYSTEM_WORDS = 1500
MEBI = 2**20
UNTIL = float("inf")
# What a caller of the open loop takes for good, in seconds.
GOOD_TTFT = 2.0
GOOD_ITL = 0.1


async def one_stream(stage: Stage) -> Measured:
    """Tokens per second of a short prompt's answer, its first token included."""
    summary = sound(await in_turn(stage, [alone(20, 128, f"{stage.seed}/{n}") for n in range(2)]))
    return Measured([summary.output_rate], facts(summary))


async def eight_streams(stage: Stage) -> Measured:
    """Tokens per second of all, and the gap between two pieces of a stream."""
    answers = await closed(stage, 8, [alone(40, 64, f"{stage.seed}/{n}") for n in range(16)])
    gaps = [gap for answer in answers for gap in answer.gaps]
    summary = sound(answers)
    return Measured([summary.output_rate, percentile(gaps, 99)], facts(summary))


async def many_streams(stage: Stage) -> Measured:
    """Tokens per second of all, and the first token's wait, where half must queue."""
    answers = await closed(stage, 32, [alone(40, 48, f"{stage.seed}/{n}") for n in range(32)])
    summary = sound(answers)
    waits = [answer.ttft for answer in answers]
    return Measured([summary.output_rate, percentile(waits, 95)], facts(summary))


async def cold_prompt(stage: Stage) -> Measured:
    """The wait for the first token after a long prompt that no cache knows."""
    answer = await stage.wire.ask(alone(1985, 4, stage.seed))
    return Measured([median([answer.ttft])], facts(sound([answer])))


async def shared_prompt(stage: Stage) -> Measured:
    """The wait for the first token of those that follow the first."""
    system = words(SYSTEM_WORDS, stage.seed)
    bodies = [under(system, f"{stage.seed}/{n}", 8) for n in range(6)]
    answers = await in_turn(stage, bodies)
    return Measured([median([answer.ttft for answer in answers[1:]])], facts(sound(answers)))


async def shared_at_once(stage: Stage) -> Measured:
    """The wait for the first token where eight share a prompt that nobody had before."""
    system = words(SYSTEM_WORDS, stage.seed)
    answers = await closed(stage, 8, [under(system, f"{stage.seed}/{n}", 8) for n in range(8)])
    return Measured([median([answer.ttft for answer in answers])], facts(sound(answers)))


async def six_turns(stage: Stage) -> Measured:
    """The wait for the first token of a conversation's turns, from the second on."""
    messages: list[Message] = [said("system", words(100, stage.seed))]
    answers = []
    for turn in range(6):
        messages.append(said("user", words(40, f"{stage.seed}/{turn}")))
        answers.append(await stage.wire.ask(chat(messages, 32)))
        messages.append(said("assistant", answers[-1].text))
    return Measured([median([answer.ttft for answer in answers[1:]])], facts(sound(answers)))


async def json_documents(stage: Stage) -> Measured:
    """Documents per second, every one checked against the schema."""
    answers = await closed(stage, 4, [document(f"{stage.seed}/{n}") for n in range(8)])
    summary = sound(answers)
    for answer in answers:
        check_document(answer.text)
    return Measured([summary.ok / summary.duration], facts(summary))


async def repetition(stage: Stage) -> Measured:
    """Tokens per second after the first token of a text that stands in the prompt."""
    answers = await in_turn(stage, [repeat(160)] * 2)
    agreement = min(agreement_with(TEXT, answer.text) for answer in answers)
    summary = sound(answers)
    pace = 1 / median([answer.itl for answer in answers])
    return Measured([pace], facts(summary, agreement=agreement))


async def long_context(stage: Stage) -> Measured:
    """The wait for the first token of a long prompt, and tokens per second after it."""
    answer = await stage.wire.ask(alone(6985, 64, stage.seed))
    summary = sound([answer])
    return Measured([median([answer.ttft]), 1 / median([answer.itl])], facts(summary))


async def mix_capacity(stage: Stage) -> Measured:
    """Requests per second of the mix with all slots busy."""
    summary = sound(await closed(stage, 16, [mixed(f"{stage.seed}/{n}") for n in range(48)]))
    return Measured([summary.ok / summary.duration], facts(summary))


async def open_mix(stage: Stage) -> Measured:
    """Good answers per second and their share, while requests arrive as they please."""
    if stage.arrivals is None:
        raise BenchError("the open loop needs a rate")
    numbers = count()

    async def send(late: float) -> Record:
        return await stage.wire.ask(mixed(f"{stage.seed}/{next(numbers)}"), late)

    answers = await stage.arrivals.run(send, UNTIL)
    good = sum(map(is_good, answers))
    summary = Summary.of(answers)
    about = facts(summary, rate=stage.arrivals.rate, good=good, errors=summary.errors)
    share = good / len(answers)
    return Measured([good / stage.arrivals.duration, share], about)


async def memory_load(stage: Stage) -> Measured:
    """Work of every kind in turn; what is measured is what the server's processes hold."""
    answers = await closed(stage, 16, [alone(40, 48, f"{stage.seed}/{n}") for n in range(16)])
    answers += await in_turn(stage, [alone(1985, 8, f"{stage.seed}/cold/{n}") for n in range(2)])
    system = words(SYSTEM_WORDS, stage.seed)
    answers += await in_turn(stage, [under(system, f"{stage.seed}/{n}", 8) for n in range(8)])
    answers += await closed(stage, 16, [mixed(f"{stage.seed}/{n}") for n in range(16)])
    peak = sum(part.rss_peak for part in stage.watch.resources.values())
    return Measured([peak / MEBI], facts(sound(answers)))


async def in_turn(stage: Stage, bodies: list[Body]) -> list[Answer]:
    return [await stage.wire.ask(body) for body in bodies]


async def closed(stage: Stage, concurrency: int, bodies: list[Body]) -> list[Answer]:
    """The answers, in the order in which they ended."""
    waiting = iter(bodies)
    answers: list[Answer] = []

    async def send(_: float) -> Record:
        answers.append(await stage.wire.ask(next(waiting)))
        return answers[-1]

    await Closed(concurrency, len(bodies)).run(send, UNTIL)
    return answers


def check_document(text: str) -> None:
    """Raises BenchError unless the text is JSON that keeps to the schema."""
    try:
        jsonschema_rs.validate(SCHEMA, orjson.loads(text))
    except (orjson.JSONDecodeError, jsonschema_rs.ValidationError) as error:
        raise BenchError(f"not a document of the schema: {text!r}") from error


def agreement_with(text: str, repeated: str) -> float:
    """From 0 to 1: how much of what was repeated stands in the text's beginning, in order."""
    return SequenceMatcher(a=text[: len(repeated)], b=repeated.strip(), autojunk=False).ratio()


def is_good(answer: Record) -> bool:
    """Whether its caller had the first token and the others in time."""
    if answer.error is not None or answer.ttft is None:
        return False
    return answer.late + answer.ttft < GOOD_TTFT and (answer.itl or 0.0) < GOOD_ITL
