"""The tokens that end a turn in the templates of well-known models."""

from __future__ import annotations

TURN_ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|end_of_text|>",
    "<|end_of_turn|>",
    "<end_of_turn>",
    "<|END_OF_TURN_TOKEN|>",
    "<|eot|>",
    "<｜end▁of▁sentence｜>",  # noqa: RUF001 - as DeepSeek spells it
    "[EOT]",
)
TEXT_END = "<|endoftext|>"
