"""What is known of a provider's speed before anything has run on it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Constants and first guesses. Costs are in seconds."""

    slice_tokens: int
    """The longest slice of a prompt that runs in one step: longer ones are no faster per token."""
    draft_token_cost: float
    """The cost of one more token in a step, as a part of the cost of a step with one token."""
    decode_costs_s: tuple[float, float, float]
    """Of a decode step: for itself, for each row, for each token of context."""
    prefill_costs_s: tuple[float, float]
    """Of a slice: for each token, and for each token that stands before it."""


# Measured. One more token costs a sixth with 8-bit weights, a fifth to a quarter with 4-bit ones;
# for those the lower value does no worse, as drafts that are right tend to stay right. It is a
# constant and not measured at runtime, or the speed of the moment would decide which kernels round
# a token's logits.
CPU_PACE = Pace(256, 0.15, (0.004, 0.0022, 2.4e-6), (0.0015, 0.55e-6))
# Calculated, for a model of 8 billion parameters on an H200: with some 2,000 tokens arithmetic
# takes longer than reading the weights. Nothing was measured on a GPU.
GPU_PACE = Pace(2048, 0.01, (0.004, 2e-5, 3e-8), (4e-5, 1.5e-9))
