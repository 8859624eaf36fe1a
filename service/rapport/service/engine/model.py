"""The model folder: what `models` wrote and the engine reads."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel


class GraphInputs(BaseModel):
    """Names of the graph's inputs; `{layer}` stands for the layer's number."""

    input_ids: str
    seqlens_k: str
    total_sequence_length: str
    logit_rows: str
    past_key: str
    past_value: str


class GraphOutputs(BaseModel):
    """Names of the graph's outputs."""

    logits: str
    present_key: str
    present_value: str


class ModelSpec(BaseModel):
    """`model.json`: what must be known of a model to run it."""

    format: Literal[1]
    id: str
    precision: Literal["int4", "int4-kv8", "int8", "int8-kv8", "float32", "float16", "prefill"]
    created: int
    owned_by: str
    context_length: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocab_size: int
    kv_type: Literal["float32", "float16", "int8"]
    eos_token_ids: list[int]
    inputs: GraphInputs
    outputs: GraphOutputs
    source: dict[str, str]

    @classmethod
    def read(cls, folder: Path) -> ModelSpec:
        """Reads `model.json` of a model folder.

        Raises:
            OSError: there is none.
            pydantic.ValidationError: it is not of this format.
        """
        return cls.model_validate_json((folder / "model.json").read_bytes())
