"""The names of a graph's inputs and outputs; `{layer}` stands for the layer's number."""

from __future__ import annotations

INPUTS = {
    "input_ids": "input_ids",
    "seqlens_k": "seqlens_k",
    "total_sequence_length": "total_sequence_length",
    "logit_rows": "logit_rows",
    "past_key": "past_key_values.{layer}.key",
    "past_value": "past_key_values.{layer}.value",
}
OUTPUTS = {
    "logits": "logits",
    "present_key": "present.{layer}.key",
    "present_value": "present.{layer}.value",
}
