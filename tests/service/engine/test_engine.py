from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from rapport.service.engine.config import EngineConfig
from rapport.service.engine.engine import Engine
from rapport.service.engine.errors import (
    EngineUnavailableError,
    OverloadedError,
    StepFailedError,
    UnserviceableRequestError,
)
from rapport.service.engine.request import (
    ANONYMOUS,
    FinishReason,
    GenerationRequest,
    SamplingParams,
    Tenant,
)
from tests.service.engine.fake import (
    CONTEXT,
    END,
    EndingRunner,
    FakeRunner,
    Gate,
    ShortSlices,
    byte_vocabulary,
    collect,
    expected,
    fake_spec,
    greedy,
    settled,
)

SLOTS = 4


@asynccontextmanager
async def running(runner: FakeRunner, config: EngineConfig | None = None) -> AsyncIterator[Engine]:
    """A started engine that must have released all it took by the end."""
    engine = Engine(runner, fake_spec(), byte_vocabulary(), config or EngineConfig())
    engine.start(lambda: None)
    yield engine
    await settled(engine)
    await engine.stop()
    counters = engine.counters
    assert counters.accepted == counters.finished + counters.cancelled + counters.failed
    assert engine.slot_counters.taken == engine.slot_counters.released
    assert not any(runner.contents[:SLOTS])


def text(prompt: str, count: int) -> str:
    return bytes(expected(prompt.encode(), count)).decode()


async def reached(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.reached.wait, 10)


async def test_a_request_gets_the_models_own_tokens() -> None:
    """The deltas join to what the model generates, and the last one says why it ended."""
    async with running(FakeRunner()) as engine, engine.submit(greedy("hello", 9)) as generation:
        deltas = [delta async for delta in generation]
        assert "".join(delta.text for delta in deltas) == text("hello", 9)
        assert deltas[-1].finish_reason is FinishReason.LENGTH
        assert generation.completion_tokens == 9


async def test_many_at_once_get_each_their_own() -> None:
    """More requests than slots, of different lengths, never get a neighbour's tokens."""
    prompts = [f"prompt {number}" * (number % 4 + 1) for number in range(40)]
    async with running(FakeRunner()) as engine:
        requests = [greedy(prompt, 3 + place % 11) for place, prompt in enumerate(prompts)]
        texts = await asyncio.gather(*(collect(engine.submit(request)) for request in requests))
    expected_texts = [{0: text(prompt, 3 + place % 11)} for place, prompt in enumerate(prompts)]
    assert texts == expected_texts


@pytest.mark.parametrize(("n", "max_tokens"), [(3, 5), (128, 1), (50, 4)])
async def test_choices_share_one_computed_prompt(n: int, max_tokens: int) -> None:
    """n choices, also more than there are slots, all come; the prompt is run once."""
    runner = FakeRunner()
    async with running(runner) as engine:
        texts = await collect(engine.submit(greedy("a longer prompt", max_tokens, n=n)))
    assert texts == dict.fromkeys(range(n), text("a longer prompt", max_tokens))
    assert sum(runner.slices) == len("a longer prompt")


async def test_each_choice_has_logits_of_its_own() -> None:
    """The bias is added once for each choice, not again to what another choice has changed."""
    biased = SamplingParams(temperature=0, logit_bias={ord("~"): 6})  # the fake's best has 10
    request = GenerationRequest(tuple(b"a prompt"), 1, n=4, sampling=biased)
    async with running(FakeRunner()) as engine:
        texts = await collect(engine.submit(request))
    assert texts == dict.fromkeys(range(4), text("a prompt", 1))


async def test_many_choices_do_not_hold_up_another_request() -> None:
    """A request behind one with 128 choices is done long before those are."""
    async with running(FakeRunner()) as engine:
        many = asyncio.create_task(collect(engine.submit(greedy("many", 20, n=128))))
        await collect(engine.submit(greedy("one", 5)))
        assert not many.done()
        await many


async def test_end_of_turn_stops_unless_ignored() -> None:
    """An end token stops, is counted and is no text; with ignore_eos it stops nothing."""
    ending = SamplingParams(temperature=0, logit_bias={END: 100})
    async with running(FakeRunner()) as engine:
        for ignore, tokens, reason in ((False, 1, "STOP"), (True, 6, "LENGTH")):
            request = GenerationRequest((1, 2), 6, sampling=ending, ignore_eos=ignore)
            async with engine.submit(request) as generation:
                deltas = [delta async for delta in generation]
            assert "".join(delta.text for delta in deltas) == ""
            assert generation.completion_tokens == tokens
            assert deltas[-1].finish_reason is FinishReason[reason]


@pytest.mark.parametrize("inclusive", [True, False])
async def test_a_stop_string_ends_the_text(*, inclusive: bool) -> None:
    """Text ends with the stop string or before it, however its tokens fall."""
    whole = text("stop here", 30)
    stop = whole[7:10]
    end = whole.index(stop) + (3 if inclusive else 0)
    request = greedy("stop here", 30, stop=(stop, "never"), stop_in_output=inclusive)
    async with running(FakeRunner()) as engine:
        assert await collect(engine.submit(request)) == {0: whole[:end]}


@pytest.mark.parametrize("runner", [FakeRunner(), EndingRunner(len("stop here") + 9)])
async def test_a_stop_string_that_never_comes(runner: FakeRunner) -> None:
    """Text that may begin a stop string is held back until the end, however that comes."""
    whole = text("stop here", 9)
    count = 9 + isinstance(runner, EndingRunner)
    request = greedy("stop here", count, stop=(whole[-2:] + "~",), stop_in_output=False)
    async with running(runner) as engine:
        assert await collect(engine.submit(request)) == {0: whole}


async def test_cancelled_while_queued() -> None:
    """A request that is cancelled in line never takes a slot."""
    runner = FakeRunner(SLOTS)
    gate = Gate(runner, "decode")
    async with running(runner) as engine:
        busy = asyncio.create_task(collect(engine.submit(greedy("busy", 8, n=SLOTS))))
        await reached(gate)
        async with engine.submit(greedy("queued", 8)):
            pass
        gate.opened.set()
        await busy
    assert engine.slot_counters.taken == SLOTS
    assert engine.counters.cancelled == 1


@pytest.mark.parametrize("kind", ["prefill", "decode"])
async def test_cancelled_while_running(kind: str) -> None:
    """A request cancelled in prefill or decode leaves its slot before the next step."""
    runner = FakeRunner()
    gate = Gate(runner, kind)
    async with running(runner) as engine:
        async with engine.submit(greedy("x" * 40, 20)):
            await reached(gate)
        gate.opened.set()
        await settled(engine)
        assert engine.counters.cancelled == 1
        assert len(runner.batches) <= 1


async def test_cancelled_with_its_last_token() -> None:
    """A cancellation that comes with the last token ends the request once."""
    runner = FakeRunner()
    gate = Gate(runner, "decode", after=2)
    async with running(runner) as engine:
        async with engine.submit(greedy("late", 4)):
            await reached(gate)
        gate.opened.set()
    assert engine.counters.finished + engine.counters.cancelled == 1


async def test_the_others_go_on_when_one_is_cancelled() -> None:
    """Cancelling a request disturbs no neighbour, also when slots move."""
    async with running(FakeRunner()) as engine:
        others = [asyncio.create_task(collect(engine.submit(greedy(p, 40)))) for p in "abc"]
        async with engine.submit(greedy("gone", 40)) as generation:
            async for _ in generation:
                break
        assert await asyncio.gather(*others) == [{0: text(p, 40)} for p in "abc"]


@pytest.mark.parametrize("line", [0, 2])
async def test_a_full_line_refuses(line: int) -> None:
    """Beyond the slots and max_waiting a request is refused at once, with a time to try again."""
    runner = FakeRunner()
    gate = Gate(runner, "prefill")
    async with running(runner, EngineConfig(max_waiting=line)) as engine:
        taken = [engine.submit(greedy("taken", 4)) for _ in range(SLOTS + line)]
        await reached(gate)
        with pytest.raises(OverloadedError) as refusal:
            engine.submit(greedy("refused", 4))
        assert refusal.value.retry_after > 0
        gate.opened.set()
        await asyncio.gather(*map(collect, taken))
        await collect(engine.submit(greedy("welcome", 4)))


async def test_reserved_place_is_kept() -> None:
    """While a request is parsed no other one takes its place, which is then its own."""
    async with running(FakeRunner(1), EngineConfig(max_waiting=0)) as engine:
        with (
            engine.reserve_place(ANONYMOUS),
            pytest.raises(OverloadedError),
            engine.reserve_place(Tenant("other")),
        ):
            pass
        await collect(engine.submit(greedy("welcome", 4)))


@pytest.mark.parametrize(("prompt", "max_tokens"), [("x" * CONTEXT, 1), ("x", CONTEXT), ("x", 0)])
async def test_what_can_never_fit_is_refused(prompt: str, max_tokens: int) -> None:
    """A request beyond the context is refused before it takes anything."""
    async with running(FakeRunner()) as engine:
        with pytest.raises(UnserviceableRequestError):
            engine.submit(greedy(prompt, max_tokens))


async def test_the_context_can_be_filled() -> None:
    """Prompt and completion together may have the whole context."""
    async with running(FakeRunner()) as engine:
        texts = await collect(engine.submit(greedy("x" * 40, CONTEXT - 40)))
    assert texts == {0: text("x" * 40, CONTEXT - 40)}


@pytest.mark.parametrize("kind", ["prefill", "decode"])
async def test_a_failing_runtime_fails_only_its_requests(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """When the runtime raises, the requests of that step fail and the next ones work."""
    runner = FakeRunner()

    def fail(run: str) -> None:
        if run == kind:
            runner.before = lambda _: None
            raise RuntimeError("out of luck")

    runner.before = fail
    async with running(runner) as engine:
        with pytest.raises(StepFailedError, match="RuntimeError"):
            await collect(engine.submit(greedy("unlucky", 9)))
        assert await collect(engine.submit(greedy("lucky", 9))) == {0: text("lucky", 9)}
    assert "out of luck" in caplog.text
    assert engine.counters.failed == 1


async def test_draining_lets_running_requests_finish() -> None:
    """While draining, new requests are refused and running ones end well."""
    async with running(FakeRunner()) as engine:
        task = asyncio.create_task(collect(engine.submit(greedy("running", 40))))
        await asyncio.sleep(0)
        drain = asyncio.create_task(engine.drain(10))
        await asyncio.sleep(0)
        with pytest.raises(EngineUnavailableError, match="shutting down"):
            engine.submit(greedy("late", 1))
        assert await task == {0: text("running", 40)}
        await drain


async def test_draining_cuts_what_outlasts_the_grace() -> None:
    """A request that still runs after the grace fails as unavailable."""
    runner = FakeRunner()
    gate = Gate(runner, "decode")
    async with running(runner) as engine:
        task = asyncio.create_task(collect(engine.submit(greedy("stuck", 40))))
        await reached(gate)
        drain = asyncio.create_task(engine.drain(0.01))
        await asyncio.sleep(0.05)
        gate.opened.set()
        with pytest.raises(EngineUnavailableError):
            await task
        await drain


async def test_a_dead_engine_fails_its_requests_and_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should the engine's thread fail, requests end with an error and the owner is called."""
    engine = Engine(FakeRunner(), fake_spec(), byte_vocabulary(), EngineConfig())
    died = asyncio.Event()
    engine.start(died.set)
    monkeypatch.setattr(engine._scheduler, "next_prefill", lambda: 1 / 0)
    with pytest.raises(EngineUnavailableError, match="died"):
        await collect(engine.submit(greedy("doomed", 9)))
    await asyncio.wait_for(died.wait(), 5)
    with pytest.raises(EngineUnavailableError):
        engine.submit(greedy("late", 1))
    await engine.stop()
    assert "ZeroDivisionError" in caplog.text


async def test_a_slow_reader_gets_everything_in_few_deltas() -> None:
    """Deltas merge while nobody reads, and nothing is lost."""
    async with running(FakeRunner()) as engine, engine.submit(greedy("slow", 40)) as generation:
        await settled(engine)
        deltas = [delta async for delta in generation]
        assert len(deltas) == 1
        assert deltas[0].text == text("slow", 40)


async def test_a_long_prompt_is_sliced_beside_running_streams() -> None:
    """With streams running, prompts advance in short slices between their steps."""
    runner = FakeRunner()
    gate = Gate(runner, "decode")
    async with running(runner) as engine:
        engine._worker._executor._latency_model = ShortSlices()
        stream = asyncio.create_task(collect(engine.submit(greedy("a", 60))))
        await reached(gate)
        prompt = asyncio.create_task(collect(engine.submit(greedy("b" * 50, 4))))
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(stream, prompt)
    assert runner.slices[0] == 1
    assert max(runner.slices[1:]) <= 16


async def test_a_short_prompt_overtakes_a_long_one() -> None:
    """The prompt with the least left to compute goes first."""
    runner = FakeRunner()
    gate = Gate(runner, "prefill")
    order: list[str] = []
    async with running(runner) as engine:
        engine._worker._executor._latency_model = ShortSlices()

        async def first_token(name: str, length: int) -> None:
            async with engine.submit(greedy(name * length, 3)) as generation:
                async for _ in generation:
                    order.append(name)
                    break

        stream = asyncio.create_task(collect(engine.submit(greedy("s", 60))))
        await reached(gate)
        tasks = [asyncio.create_task(first_token(*each)) for each in (("l", 55), ("k", 5))]
        await asyncio.sleep(0.02)
        gate.opened.set()
        await asyncio.gather(stream, *tasks)
    assert order == ["k", "l"]
