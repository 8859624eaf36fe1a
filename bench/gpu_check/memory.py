"""What the device says is taken, beside what was planned."""

from __future__ import annotations

from bench.gpu_check.course import prompt
from bench.gpu_check.subject import Measured, Subject
from rapport.models.folder import WEIGHTS
from rapport.service.engine.kv.host import bytes_per_token
from rapport.service.engine.request import SamplingParams
from rapport.service.engine.runtime.cuda import device_memory
from rapport.service.engine.runtime.load import load_runner
from rapport.service.engine.runtime.memory_plan import MemoryLimits, workspace_bytes
from rapport.service.engine.runtime.providers import choose_provider
from rapport.service.engine.runtime.runner import Runner
from rapport.service.engine.sampling.logits import DeviceLogits
from rapport.service.engine.sampling.row_candidates import RowSettings
from rapport.service.engine.sampling.sampler import Sampler
from rapport.service.engine.speculative.drafter import MAX_DRAFT_TOKENS

SLOTS = 16
LIMITS = MemoryLimits(prefix_bytes=256 * 2**20)
PROMPT_TOKENS = 200
SAMPLING = SamplingParams(temperature=0.7, top_p=0.9, repetition_penalty=1.1)


def measure(subject: Subject) -> Measured:
    """Loads the model, then does the largest steps of each kind."""
    provider, spec = choose_provider("cuda"), subject.spec()
    before = device_memory(0)
    runner = load_runner(subject.folder(), spec, provider, SLOTS, 0, limits=LIMITS)
    loaded = device_memory(0)
    work(runner)
    find(runner, spec.vocab_size)
    worked = device_memory(0)
    slot_bytes = runner.slot_tokens * bytes_per_token(spec)
    return {
        "total_bytes": before.total,
        "share": LIMITS.gpu_share,
        "used_before_bytes": before.total - before.free,
        "taken_bytes": before.free - loaded.free,
        "taken_later_bytes": loaded.free - worked.free,
        "planned_bytes": {
            "weights": (subject.folder() / WEIGHTS).stat().st_size,
            "slots": (SLOTS + 1) * slot_bytes,
            "prefixes": len(runner.kept_slots or ()) * slot_bytes,
            "computing": workspace_bytes(spec, SLOTS + 1, runner.pace.slice_tokens),
        },
    }


def work(runner: Runner) -> None:
    """The longest slice, the longest draft, and a copy."""
    longest = min(runner.pace.slice_tokens, runner.slot_tokens)
    prompt(runner, 0, [5] * longest)
    runner.verify(0, [5] * (MAX_DRAFT_TOKENS + 1), 10)
    runner.copy(0, 1, longest)


def find(runner: Runner, vocabulary: int) -> None:
    """The most rows, with their candidates, and whole."""
    logits = runner.decode([5] * SLOTS, [10] * SLOTS)
    if isinstance(logits, DeviceLogits):
        logits.candidates([settings(row, vocabulary) for row in range(SLOTS)])
        logits.rows(range(SLOTS))


def settings(row: int, vocabulary: int) -> RowSettings | None:
    """What a request with penalties asks for, after a prompt of many tokens."""
    return Sampler(SAMPLING, range(PROMPT_TOKENS), row, vocabulary).settings()
