"""The logits of a GPU beside those of the float32 graph on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.gpu_check.course import DRAFT_TOKENS, SLOTS, TEXT_TOKENS, course, fill, prompt
from bench.gpu_check.loading import load_on_gpu
from bench.gpu_check.subject import REFERENCE, Measured, Subject
from rapport.models.onnx.precision import CUDA_PRECISIONS
from rapport.service.engine.runtime.load import load_runner
from rapport.service.engine.runtime.memory_plan import MemoryLimits
from rapport.service.engine.runtime.providers import CPU
from rapport.service.engine.runtime.runner import Runner
from rapport.service.engine.sampling.arrays import Floats
from rapport.service.engine.sampling.logits import copied

GREEDY_PROMPT_TOKENS = 200
GREEDY_TOKENS = 48
LIMITS = MemoryLimits()


def measure(subject: Subject) -> Measured:
    """Of each precision: how far its logits are from the reference's, and its greedy tokens."""
    text = subject.text(TEXT_TOKENS)
    if not subject.computes:
        for precision in CUDA_PRECISIONS:
            steps_of(load_on_gpu(subject, SLOTS, LIMITS, precision), text)
        return {}
    folder, spec = subject.folder(REFERENCE), subject.spec(REFERENCE)
    reference = load_runner(folder, spec, CPU, SLOTS, 0)
    wanted = list(course(reference, text))
    found = {}
    for precision in CUDA_PRECISIONS:
        given, tokens, repeats = steps_of(load_on_gpu(subject, SLOTS, LIMITS, precision), text)
        found[precision] = compared(wanted, given) | repeats
        found[precision]["greedy"] = followed(reference, text[:GREEDY_PROMPT_TOKENS], tokens)
    return found


def steps_of(
    runner: Runner, text: Sequence[int]
) -> tuple[list[tuple[str, Floats]], list[int], Measured]:
    """What a runner computes: the course, greedy tokens, and the same step twice."""
    fill(runner, TEXT_TOKENS)
    given = list(course(runner, text))
    tokens = greedy(runner, text[:GREEDY_PROMPT_TOKENS])
    return given, tokens, repeated(runner, text)


def compared(wanted: list[tuple[str, Floats]], given: list[tuple[str, Floats]]) -> Measured:
    """How far each kind of step is from what is wanted."""
    kinds: dict[str, list[Floats]] = {}
    for (kind, right), (_, logits) in zip(wanted, given, strict=True):
        kinds.setdefault(kind, []).append(np.stack([right, logits]))
    return {"kinds": {kind: distances(*np.hstack(pairs)) for kind, pairs in kinds.items()}}


def distances(wanted: Floats, given: Floats) -> Measured:
    """How far rows of logits are from others; in nats."""
    if not np.isfinite(given).all():
        return {"finite": False}
    one, other = _log_probabilities(wanted), _log_probabilities(given)
    divergences = (np.exp(one) * (one - other)).sum(-1)
    chosen = np.take_along_axis(one, given.argmax(-1, keepdims=True), -1)[:, 0]
    return {
        "finite": True,
        "rows": len(wanted),
        "mean_divergence": float(divergences.mean()),
        "max_divergence": float(divergences.max()),
        "max_difference": float(np.abs(wanted - given).max()),
        "max_regret": float((one.max(-1) - chosen).max()),
    }


def _log_probabilities(logits: Floats) -> Floats:
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    result: Floats = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    return result


def greedy(runner: Runner, tokens: Sequence[int]) -> list[int]:
    """The most probable tokens after a prompt, one after the other."""
    chosen = [int(copied(prompt(runner, 0, tokens)).argmax())]
    while len(chosen) < GREEDY_TOKENS:
        past = len(tokens) + len(chosen) - 1
        chosen.append(int(copied(runner.decode(chosen[-1:], [past])).argmax()))
    return chosen


def followed(reference: Runner, tokens: Sequence[int], chosen: list[int]) -> Measured:
    """How the reference likes tokens that another runner has chosen after a prompt."""
    rows = [copied(prompt(reference, 0, tokens))]
    for place, token in enumerate(chosen[:-1]):
        rows.append(copied(reference.decode([token], [len(tokens) + place])))
    likes = _log_probabilities(np.concatenate(rows))
    regrets = likes.max(-1) - likes[np.arange(len(chosen)), chosen]
    return {
        "tokens": len(chosen),
        "same": int((regrets == 0).sum()),
        "max_regret": float(regrets.max()),
    }


def repeated(runner: Runner, text: Sequence[int]) -> Measured:
    """Whether a step gives the same bits again, and a row those that it has alone."""
    pasts = [DRAFT_TOKENS] * SLOTS
    for slot in range(SLOTS):
        runner.prefill(slot, text[:DRAFT_TOKENS], 0)
    one, other = (copied(runner.decode(text[:SLOTS], pasts)) for _ in range(2))
    alone = copied(runner.decode(text[:1], pasts[:1]))
    return {
        "repeatable": bool(np.array_equal(one, other)),
        "independent_of_rows": bool(np.array_equal(one[:1], alone)),
    }
