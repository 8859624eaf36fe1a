"""A model, whatever its source: what it computes, its layers, and how it reads and ends a turn."""

from __future__ import annotations

from abc import ABC, abstractmethod

from tokenizers import Tokenizer

from rapport.common.model_spec import SamplingDefaults
from rapport.models.decoder.architecture import read_architecture
from rapport.models.decoder.chat_templates import ChatTemplates
from rapport.models.decoder.source import Source
from rapport.models.decoder.tensors import check_tensors
from rapport.models.weights.matrix import Projection


class Model(ABC):
    """A model that the graph can compute.

    Attributes:
        source: Its keys and tensors.
        architecture: What it computes.
        chat_templates: Jinja templates that make a prompt of messages.
        end_tokens: The ids that end a turn.
        special_tokens: Tokens that a template can write, by the names of variables.
        begins_with_bos: Whether a prompt begins with BOS, also where the template does not write
            it.
        sampling_defaults: The sampling values that its files advise.
        quantises_floats: Whether precisions with weights in 4 or 8 bits are made from floats; else
            floats stay floats there.

    Raises:
        CorruptFileError: the source contradicts itself.
        UnsupportedModelError: it has something that the graph cannot compute.
    """

    chat_templates: ChatTemplates
    end_tokens: list[int]
    special_tokens: dict[str, str]
    sampling_defaults: SamplingDefaults
    begins_with_bos: bool
    quantises_floats = False

    def __init__(self, source: Source) -> None:
        self.source = source
        self.architecture = read_architecture(source)
        check_tensors(source, self.architecture)

    @abstractmethod
    def tokenizer(self) -> Tokenizer:
        """The tokenizer with the model's token ids.

        Raises:
            CorruptFileError: what it is made of does not fit together.
        """

    def projection(self, name: str) -> Projection:
        """The linear layer of this name, with its bias if it has one."""
        bias = f"{name}.bias"
        return Projection(
            self.source.matrix(f"{name}.weight"),
            self.source.vector(bias) if bias in self.source.tensors else None,
        )

    def query_or_key(self, name: str, heads: int) -> Projection:  # noqa: ARG002 - GGUF needs it
        """The projection to so many heads of queries or keys, whose halves the rotation pairs."""
        return self.projection(name)
