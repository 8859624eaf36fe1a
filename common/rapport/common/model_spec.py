"""`model.json`: the description of a model that the importer writes and the engine reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

FILE_NAME = "model.json"
# Incremented when folders of an older Rapport must be imported again.
FORMAT = 1


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


Share = Annotated[float, Field(ge=0, le=1)]


class SamplingDefaults(BaseModel):
    """What a model's makers advise for requests that do not say it; None where they do not."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Field(ge=0, le=100)] | None = None
    min_p: Share | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None

    @property
    def given(self) -> dict[str, float]:
        """Those that are advised, by the names of a request's fields."""
        return self.model_dump(exclude_none=True)


class ModelSpec(BaseModel):
    """What must be known of a model to run it."""

    format: Literal[1]
    id: str
    precision: Literal[
        "int4",
        "int4-kv8",
        "int8",
        "int8-kv8",
        "float32",
        "float16",
        "bfloat16",
        "int4-float16",
        "int8-float16",
        "prefill",
    ]
    created: int
    """Unix time in seconds."""
    owned_by: str
    context_length: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocab_size: int
    kv_type: Literal["float32", "float16", "bfloat16", "int8"]
    eos_token_ids: list[int]
    tool_template: str | None = None
    """The chat template for requests with tools, where it is not chat_template.jinja."""
    special_tokens: dict[str, str] = Field(default_factory=dict)
    """Special tokens by the names that templates have for them, such as `bos_token`."""
    begins_with_bos: bool = False
    """Whether prompts begin with `bos_token`, also where the template does not write it."""
    sampling_defaults: SamplingDefaults = SamplingDefaults()
    inputs: GraphInputs
    outputs: GraphOutputs
    source: dict[str, str]
    """Where the model came from."""
    sizes: dict[str, int] = Field(default_factory=dict)
    """Sizes of the folder's other files by name, in bytes. The engine does not need them."""
    sha256: dict[str, str] = Field(default_factory=dict)
    """Their hashes, which `rapport models verify` checks."""

    @classmethod
    def read(cls, folder: Path) -> ModelSpec:
        """Reads `model.json` of a model folder.

        Raises:
            OSError: The file cannot be read.
            pydantic.ValidationError: It does not have this format.
        """
        return cls.model_validate_json((folder / FILE_NAME).read_bytes())

    def write(self, folder: Path) -> None:
        """Writes `model.json` into a model folder.

        Raises:
            OSError: The file cannot be written.
        """
        (folder / FILE_NAME).write_text(json.dumps(self.model_dump(), indent=2) + "\n")
