"""What is known of a provider's speed before anything has run on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

# How small a cost may be, as a part of what was guessed.
MIN_GUESS_RATIO = 0.01


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

    def measured(self, step_s: float, full_step_s: float, rows: int, token_s: float) -> Pace:
        """The same constants, with first guesses from what a few steps took.

        Args:
            step_s: a decode step of one row.
            full_step_s: one of `rows` rows.
            rows: more than one.
            token_s: a token of a long slice.
        """
        _, row_guess_s, context_s = self.decode_costs_s
        row_s = (full_step_s - step_s) / (rows - 1)
        # Where more rows take no longer, as far as a clock can tell, a cost must still be positive.
        row_s = max(row_s, MIN_GUESS_RATIO * row_guess_s)
        decode_costs_s = (step_s, row_s, context_s)
        prefill_costs_s = (token_s, self.prefill_costs_s[1])
        return replace(self, decode_costs_s=decode_costs_s, prefill_costs_s=prefill_costs_s)


# Measured. One more token costs a sixth with 8-bit weights, a fifth to a quarter with 4-bit ones;
# for those the lower value does no worse, as drafts that are right tend to stay right. It is a
# constant and not measured at runtime, or the speed of the moment would decide which kernels round
# a token's logits.
CPU_PACE = Pace(256, 0.15, (0.004, 0.0022, 2.4e-6), (0.0015, 0.55e-6))
# Calculated, for a model of 8 billion parameters on an H200: with some 2,000 tokens arithmetic
# takes longer than reading the weights. Nothing was measured on a GPU. Costs in seconds are
# measured at the start; the others decide which kernels round what, so they are constants.
GPU_PACE = Pace(2048, 0.01, (0.004, 2e-5, 3e-8), (4e-5, 1.5e-9))
