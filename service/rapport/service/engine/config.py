"""The limits and options of an engine."""

from __future__ import annotations

from dataclasses import dataclass

from rapport.service.engine.runtime.faults import Fault
from rapport.service.engine.runtime.memory_plan import MemoryLimits
from rapport.service.engine.scheduling.admission import AdmissionLimits


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """The limits and options of an engine."""

    slots: int = 16
    """Sequences that run at the same time."""
    max_waiting: int = 256
    """Requests that may wait; with 0, only those that find a free slot are accepted."""
    max_waiting_tokens: int = 0
    """Tokens that the prompts of waiting requests may have; 0 for no limit."""
    max_ttft: float = 300.0
    """Predicted seconds to the first token above which a request is refused; 0: no limit."""
    kv_budget_bytes: int = 2 * 2**30
    """Bytes that the keys and values of running sequences may grow to."""
    prefix_bytes: int = 512 * 2**20
    """Bytes of the prefix cache: keys and values that later prompts may reuse; 0: no cache."""
    gpu_share: float = 0.9
    """Share of a GPU's memory that is used."""
    itl_target: float = 0.05
    """Inter-token latency in seconds that prefill should not exceed."""
    drafts: bool = True
    """Whether to use speculative decoding."""
    threads: int = 0
    """Threads to compute with; 0 means one for each core."""
    deterministic: bool = False
    """Whether a request gives the same bytes regardless of batch composition and cache."""
    faults: tuple[Fault, ...] = ()
    """Injected faults, for tests."""

    @property
    def memory(self) -> MemoryLimits:
        """What keys and values may take."""
        return MemoryLimits(self.kv_budget_bytes, self.prefix_bytes, self.gpu_share)

    @property
    def admission(self) -> AdmissionLimits:
        """What may wait."""
        return AdmissionLimits(self.max_waiting, self.max_waiting_tokens, self.max_ttft)

    @property
    def uses_drafts(self) -> bool:
        """Whether speculative decoding is used.

        A deterministic engine does not: verifying rounds differently from decoding, and only a
        request that runs alone gets drafts.
        """
        return self.drafts and not self.deterministic
