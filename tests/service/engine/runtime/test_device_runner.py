"""The runner of a GPU over a stub of CUDA: what its memory holds, and what crosses to it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rapport.common.model_spec import ModelSpec
from rapport.service.engine.config import EngineConfig
from rapport.service.engine.engine import Engine
from rapport.service.engine.errors import OutOfMemoryError, failure_of
from rapport.service.engine.generation import Generation
from rapport.service.engine.kv.device import DeviceKeyValues
from rapport.service.engine.pace import GPU_PACE
from rapport.service.engine.request import SamplingParams, Tenant
from rapport.service.engine.runtime import load, load_device
from rapport.service.engine.runtime.device import DeviceLostError
from rapport.service.engine.runtime.device_runner import DRAFT_SIZES, DeviceRunner, bucket_sizes
from rapport.service.engine.runtime.memory_plan import MemoryLimits
from rapport.service.engine.runtime.providers import CUDA, choose_provider
from rapport.service.engine.runtime.session import open_session
from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler
from rapport.service.engine.sampling.sampler import Sampler
from tests.service.engine.fake import END, ShortSlices, byte_vocabulary, expected, greedy
from tests.service.engine.fragile import AtOnce
from tests.support.cuda_stub import stub
from tests.support.cuda_stub.emulation import EmulatedRunner, return_step_inputs
from tests.support.tiny_model import tiny_folder

pytestmark = pytest.mark.cuda_stub

SLOTS = 4
TOKENS = 128
TOKEN_BYTES = 2 * 2 * 2 * 16 * 2
KEPT_SLOTS = 3
LETTERS = GrammarCompiler(byte_vocabulary(), [END]).compile("start: /[a-z]+/")
LIMITS = MemoryLimits(kv_bytes=1 << 30, prefix_bytes=KEPT_SLOTS * TOKENS * TOKEN_BYTES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_folder(tmp_path_factory.mktemp("models"))
    return_step_inputs(folder)
    return folder


@pytest.fixture
def runner(folder: Path) -> DeviceRunner:
    choose_provider("cuda")
    runner = load.load_runner(folder, ModelSpec.read(folder), CUDA, SLOTS, 0, limits=LIMITS)
    assert isinstance(runner, DeviceRunner)
    stub.reset()
    return runner


@pytest.fixture
def emulated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> EmulatedRunner:
    choose_provider("cuda")
    monkeypatch.setattr(load_device, "DeviceRunner", EmulatedRunner)
    runner = load.load_runner(folder, ModelSpec.read(folder), CUDA, SLOTS, 0, limits=LIMITS)
    assert isinstance(runner, EmulatedRunner)
    stub.reset()
    return runner


def test_buckets_are_powers_of_two_and_all_rows() -> None:
    assert bucket_sizes(17) == [1, 2, 4, 8, 16, 17]
    assert bucket_sizes(2) == [1, 2]
    assert bucket_sizes(8) == [1, 2, 4, 8]


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_a_decode_step_is_one_upload_and_one_graph(runner: DeviceRunner, rows: int) -> None:
    """No kernel is launched by itself, nothing is captured again, and nothing else crosses."""
    for step in range(5):
        stub.reset()
        runner.decode([step] * rows, [step] * rows)
        counters = stub.counters()
        assert (counters.uploads, counters.upload_bytes) == (1, 3 * 256)
        assert (counters.graph_launches, counters.launches, counters.captures) == (1, 0, 0)
        assert (counters.downloads, counters.mallocs) == (0, 0)


@pytest.fixture
def eager(folder: Path) -> DeviceRunner:
    """A runner whose steps are not captured."""
    choose_provider("cuda")
    session, spec = open_session(folder / load.GRAPH_FILE, CUDA), ModelSpec.read(folder)
    runner = DeviceRunner(session, DeviceKeyValues(spec, SLOTS, TOKENS, CUDA), CUDA)
    runner.capture()
    stub.reset()
    return runner


SAMPLINGS = [
    SamplingParams(temperature=0),
    SamplingParams(temperature=0.7, top_k=40, top_p=0.9, min_p=0.05, seed=1),
    SamplingParams(repetition_penalty=1.1, frequency_penalty=0.5, presence_penalty=0.5),
    SamplingParams(logit_bias=dict.fromkeys(range(100), 1.0)),
]


@pytest.mark.parametrize("kind", ["runner", "eager"])
@pytest.mark.parametrize("masked", [0, 2])
@pytest.mark.parametrize("rows", [1, 3, 4])
def test_a_step_with_its_candidates_is_one_upload_and_one_transfer_back(
    request: pytest.FixtureRequest, kind: str, rows: int, masked: int
) -> None:
    """Whatever its rows ask for, masks that are ready included; with a graph and without one."""
    runner: DeviceRunner = request.getfixturevalue(kind)
    size = runner._spec.vocab_size
    mask = np.full(-(-size // 8), 255, np.uint8)
    for step in range(3):
        samplers = [Sampler(SAMPLINGS[row], range(9), row, size) for row in range(rows)]
        settings = [
            each.settings(mask if row < masked else None) for row, each in enumerate(samplers)
        ]
        stub.reset()
        logits = runner.decode([step] * rows, [step] * rows, lambda given=settings: given)
        assert stub.counters().graph_launches == (kind == "runner")
        found = logits[:rows].candidates(logits[:rows].known_settings)
        counters = stub.counters()
        assert None not in found
        assert (counters.uploads, counters.downloads, counters.mallocs) == (1, 1, 0)
        assert counters.download_bytes <= 32 * 1024 * rows


def test_a_mask_that_was_late_is_a_second_upload(runner: DeviceRunner) -> None:
    """With all that its step depends on; the other rows draw from the same run."""
    size = runner._spec.vocab_size
    settings = [Sampler(each, range(9), 0, size).settings() for each in SAMPLINGS[:2]]
    late = Sampler(SAMPLINGS[0], (), 0, size).settings(np.full(-(-size // 8), 255, np.uint8))
    logits = runner.decode([1] * 3, [1] * 3, lambda: [*settings, None])
    assert logits.known_settings == [*settings, None]
    assert None not in logits.candidates([*settings, late])
    assert stub.counters().uploads == 2


@pytest.mark.parametrize("tokens", [2, 3, 16])
def test_a_draft_is_one_upload_and_one_graph(runner: DeviceRunner, tokens: int) -> None:
    """That of a sequence that is alone, wherever it has got to."""
    for past in (0, 7, TOKENS - 16):
        stub.reset()
        runner.verify(0, range(tokens), past)
        counters = stub.counters()
        assert (counters.uploads, counters.graph_launches) == (1, 1)
        assert (counters.launches, counters.captures, counters.mallocs) == (0, 0, 0)


def test_a_draft_at_the_end_of_a_slot_stays_in_it(emulated: EmulatedRunner) -> None:
    """A bucket that would reach behind the slot is not used."""
    emulated.prefill(0, [7] * (TOKENS - 5), 0)
    held = emulated.read(1, 0, TOKENS)
    emulated.verify(0, [1, 2, 3, 4, 5], TOKENS - 5)
    assert (emulated.read(1, 0, TOKENS) == held).all()
    assert emulated.observed.seen["input_ids"].shape == (1, 5)


def test_a_row_that_is_too_many_writes_behind_what_was_copied_to_its_slot(
    emulated: EmulatedRunner,
) -> None:
    """As of a sequence that was moved there, and then waits for its mask."""
    emulated.prefill(0, [5, 6, 7], 0)
    emulated.copy(0, 3, 3)
    copied = emulated.read(3, 0, 3)
    emulated.decode([1, 2, 3], [3, 0, 0])
    assert (emulated.read(3, 0, 3) == copied).all()


def test_first_guesses_of_speed_are_measured(runner: DeviceRunner) -> None:
    """Of this model on this device; what decides how logits are rounded stays constant."""
    step_s, row_s, _ = runner.pace.decode_costs_s
    token_s, _ = runner.pace.prefill_costs_s
    assert 0 < step_s != GPU_PACE.decode_costs_s[0]
    assert row_s > 0
    assert 0 < token_s != GPU_PACE.prefill_costs_s[0]
    assert runner.pace.slice_tokens == GPU_PACE.slice_tokens
    assert runner.pace.draft_token_cost == GPU_PACE.draft_token_cost


def test_each_bucket_is_captured_once(folder: Path) -> None:
    """All of them at the start."""
    choose_provider("cuda")
    stub.reset()
    load.load_runner(folder, ModelSpec.read(folder), CUDA, SLOTS, 0, limits=LIMITS)
    assert stub.counters().captures == len(bucket_sizes(SLOTS + 1)) + len(DRAFT_SIZES)


def test_a_prompt_is_never_captured(runner: DeviceRunner) -> None:
    """Slices, and drafts in other slots, run kernel by kernel: one upload brings what they read."""
    runner.prefill(1, [1, 2, 3], 0)
    runner.verify(1, [4, 5, 6, 7], 3)
    counters = stub.counters()
    assert (counters.uploads, counters.captures, counters.graph_launches) == (2, 0, 0)
    assert counters.launches > 0


def test_fresh_slots_are_zero(runner: DeviceRunner) -> None:
    """What the memory held before, which may be NaN, is never attended to."""
    tokens = runner.read(SLOTS - 1, 1, TOKENS - 1)
    assert not tokens.any()


def test_a_slot_comes_back_from_the_host_as_it_was(runner: DeviceRunner) -> None:
    """What is read from one slot can be written to another, whatever its length and place."""
    spec = runner._spec
    shape = (2 * spec.layers, spec.kv_heads, 70, spec.head_size)
    tokens = np.random.default_rng(1).random(shape).astype(np.float16)
    runner.write(1, 5, tokens, 70)
    assert (runner.read(1, 5, 70) == tokens).all()
    runner.write(2, 0, runner.read(1, 10, 40), 40)
    assert (runner.read(2, 0, 40) == tokens[:, :, 5:45]).all()
    assert not runner.read(2, 40, 30).any()


def test_only_the_tokens_that_are_held_are_copied(runner: DeviceRunner) -> None:
    """A slot with 12 tokens costs 12 tokens to copy, within the device."""
    runner.copy(0, 2, 12)
    counters = stub.counters()
    assert counters.copy_bytes == 12 * TOKEN_BYTES
    assert (counters.uploads, counters.downloads) == (0, 0)


@pytest.mark.parametrize("failing", ["launch:700@1", "launch:719@1", "upload:700@1", "copy:700@1"])
def test_after_an_error_that_sticks_the_device_is_lost(
    runner: DeviceRunner, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """Whatever comes first and after it ends the engine: no step catches the error."""
    monkeypatch.setenv("CUDA_STUB_FAIL", failing)
    calls: list[Callable[[], object]] = [
        lambda: runner.copy(0, 1, 5),
        lambda: runner.prefill(0, [1, 2], 0),
        lambda: runner.decode([1], [1]),
        lambda: runner.read(0, 0, 1),
        lambda: runner.write(0, 0, np.zeros((4, 2, 1, 16), np.float16), 1),
    ]
    if not failing.startswith("copy"):
        calls.pop(0)()
    for call in calls:
        with pytest.raises(DeviceLostError):
            call()
    stub.reset()  # another process, on this stub


def test_a_step_without_memory_fails_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the error that fails one request, and the next step has the memory again."""
    monkeypatch.setattr(DeviceRunner, "capture", lambda _: None)
    runner = load.load_runner(folder, ModelSpec.read(folder), CUDA, SLOTS, 0, limits=LIMITS)
    stub.reset()
    monkeypatch.setenv("CUDA_STUB_FAIL", "malloc:2@1")
    with pytest.raises(RuntimeError) as raised:
        runner.prefill(0, [1] * 100, 0)
    assert isinstance(failure_of(raised.value), OutOfMemoryError)
    runner.prefill(0, [1] * 100, 0)


def test_every_step_runs_what_it_was_asked(emulated: EmulatedRunner) -> None:
    """Over 1,000 random steps, the device's buffers hold the step's tokens, lengths and settings.

    Requests join, leave, fork, are preempted, find prefixes, guess ahead, and some have penalties,
    biases or a grammar; each gets the tokens of the model, which reads nothing but the device's
    memory. No step captures a graph.
    """
    engine = by_hand(emulated)
    chance = random.Random(7)  # noqa: S311 - a test's course
    live: list[tuple[Generation, list[int]]] = []
    finished = 0
    captures = stub.counters().captures
    while emulated.steps < 1000:
        crowd = 1 if emulated.steps % 200 < 50 else 7  # one that is alone guesses ahead
        if len(live) < crowd and chance.random() < 0.4:
            live.append(submit(engine, chance))
        if live and chance.random() < 0.02:
            engine._cancel(live[0][0])
        if live:
            engine._worker.step()
        assert engine._worker.stats.failed_steps == 0
        for generation, right in [each for each in live if each[0].ended]:
            live.remove((generation, right))
            if generation.error is None:
                finished += 1
                assert tokens_of(generation) == right
    counters = engine._scheduler.counters
    while live:
        engine._worker.step()
        live = [each for each in live if not each[0].ended]
    assert finished > 30
    assert counters.taken == counters.released
    assert engine._worker.stats.guessed.accepted > 0
    assert min(emulated.resumed, emulated.moved, emulated.adjusted, emulated.masked) > 0
    prefixes = engine.prefix_stats
    assert min(prefixes.hits, prefixes.misses, prefixes.evictions) > 0
    assert prefixes.blocks == KEPT_SLOTS
    assert prefixes.bytes <= prefixes.budget_bytes == LIMITS.prefix_bytes
    assert stub.counters().captures == captures


def by_hand(runner: DeviceRunner) -> Engine:
    """An engine that is open, without a thread."""
    config = EngineConfig(slots=SLOTS, max_waiting=20, max_ttft=0)
    engine = Engine(runner, runner._spec, byte_vocabulary(), config, "cuda")
    engine._worker._executor._latency_model = ShortSlices()
    engine._loop = AtOnce()  # type: ignore[assignment] - what the engine needs of one
    engine._closed_reason = None
    return engine


def submit(engine: Engine, chance: random.Random) -> tuple[Generation, list[int]]:
    stem = chance.choice(["", "one stem of several", "another of the stems"])
    prompt = stem + "".join(chance.choices("ab", k=chance.randint(1, 40)))
    count, n = chance.randint(1, 30), chance.choice([1, 1, 1, 3])
    tenant = Tenant(chance.choice(["one", "two"]))
    right = expected(prompt.encode(), count)
    request = greedy(prompt, count, n=n, tenant=tenant, prediction=tuple(right))
    grammar = chance.choice([None, None, LETTERS])
    sampling = chance.choice([request.sampling, random_sampling(chance)])
    return engine.submit(replace(request, grammar=grammar, sampling=sampling)), right


def random_sampling(chance: random.Random) -> SamplingParams:
    """Penalties and biases that leave the most probable token, whose logit is 10, as it is."""
    bias = {chance.randrange(256): chance.uniform(-0.5, 5) for _ in range(chance.randint(0, 9))}
    return SamplingParams(
        temperature=0,
        repetition_penalty=chance.choice([1, 1.1]),
        presence_penalty=chance.choice([0, 0.4]),
        logit_bias=bias,
    )


def tokens_of(generation: Generation) -> list[int]:
    """The tokens of each choice, which must agree."""
    choices: dict[int, list[int]] = {}
    for delta in generation._pending:
        choices.setdefault(delta.index, []).extend(delta.token_ids)
    first, *others = choices.values()
    assert all(other == first for other in others)
    return first
