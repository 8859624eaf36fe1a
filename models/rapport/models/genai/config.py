"""`genai_config.json`: what onnxruntime-genai has to know of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from rapport.models.decoder.source import MAX_DIMENSION
from rapport.models.errors import CorruptFileError, UnsupportedModelError
from rapport.models.genai.folder import SourceFolder

FILE_NAME = "genai_config.json"
# Parts of models that are more than one decoder.
OTHER_PARTS = ("encoder", "embedding", "vision", "speech")
PACKAGE = ".ortpackage"
LAYER = "%d"  # stands for the layer's number in names

Size = Annotated[int, Field(gt=0, le=MAX_DIMENSION)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
# One that has the layer's number in it, once.
LayerName = Annotated[str, Field(pattern=r"^[^%{}]*%d[^%{}]*$", max_length=200)]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True)


class Inputs(_Section):
    """Names of the graph's inputs; the defaults are those of onnxruntime-genai."""

    input_ids: str = "input_ids"
    attention_mask: str = "attention_mask"
    past_key_names: LayerName = "past_key_values.%d.key"
    past_value_names: LayerName = "past_key_values.%d.value"


class Outputs(_Section):
    """Names of the graph's outputs."""

    logits: str = "logits"
    present_key_names: LayerName = "present.%d.key"
    present_value_names: LayerName = "present.%d.value"


class Decoder(_Section):
    """The decoder. `pipeline` is there if it is in several graphs."""

    filename: str
    head_size: Size
    num_attention_heads: Size
    num_hidden_layers: Annotated[int, Field(gt=0, le=4096)]
    num_key_value_heads: Size
    inputs: Inputs = Inputs()
    outputs: Outputs = Outputs()
    pipeline: Any = None


class Model(_Section):
    """The model: its sizes, the tokens that end a turn, and its parts."""

    type: str
    context_length: Size
    vocab_size: Size
    eos_token_id: TokenId | list[TokenId]
    decoder: Decoder
    encoder: Any = None
    embedding: Any = None
    vision: Any = None
    speech: Any = None

    @property
    def end_tokens(self) -> list[int]:
        ends = self.eos_token_id
        return ends if isinstance(ends, list) else [ends]


class Config(_Section):
    """The file."""

    model: Model
    search: dict[str, Any] = Field(default_factory=dict)

    @property
    def sampling(self) -> dict[str, Any]:
        """The values by which onnxruntime-genai samples; none where it takes the likeliest token.

        Its builder writes values in either case.
        """
        return self.search if self.search.get("do_sample") is True else {}


def is_genai(path: Path) -> bool:
    """Whether this is a folder of onnxruntime-genai, or a package, which cannot be served."""
    return path.suffix == PACKAGE or (path / FILE_NAME).is_file()


def read_config(folder: SourceFolder) -> Config:
    """The description of a model that is one decoder, and of how it is sampled.

    Raises:
        CorruptFileError: the file is missing, damaged, or contradicts itself.
        UnsupportedModelError: the model has other parts.
        OSError: it cannot be read.
    """
    if folder.path.suffix == PACKAGE:
        raise UnsupportedModelError(f"{folder.path}: a package of variants; only a folder of one")
    config = folder.json(FILE_NAME, Config)
    model = config.model
    where = folder.path / FILE_NAME
    if parts := [part for part in OTHER_PARTS if getattr(model, part) is not None]:
        raise UnsupportedModelError(f"{where}: model.{parts[0]}: only a decoder can be served")
    if model.decoder.pipeline is not None:
        raise UnsupportedModelError(f"{where}: model.decoder.pipeline: several graphs")
    if wrong := [id_ for id_ in model.end_tokens if id_ >= model.vocab_size]:
        raise CorruptFileError(
            f"{where}: model.eos_token_id: {wrong[0]} is none of {model.vocab_size} tokens"
        )
    return config
