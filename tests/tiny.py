"""A tiny model made on the spot, for all that does not need the real one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from tokenizers.pre_tokenizers import ByteLevel

from rapport.common.model_spec import ModelSpec
from rapport.models.cache.catalog import DEFAULT_MODEL, known_model
from rapport.models.folder import Origin
from rapport.models.folder_writer import write_folder
from rapport.models.progress import silent
from tests.recorded.tiny import write_gguf

LAYERS, HIDDEN, HEADS, KV_HEADS, FEED_FORWARD = 2, 64, 4, 2, 96
# Of a model that is served: more than any test's stream takes.
SERVED_CONTEXT = 32768
CHATML = """\
{% for message in messages %}<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@dataclass(frozen=True)
class Tiny:
    """How a tiny GGUF file departs from the usual one."""

    kind: str = "Q4_1"
    embedding: str = "Q8_0"
    output: str | None = None
    value_kind: str | None = None
    architecture: str = "llama"
    pre: str = "smollm"
    extra_tensor: str | None = None
    context: int = 128
    template: str = TEMPLATE


def write_tiny(path: Path, tiny: Tiny) -> Path:
    """Writes a GGUF file of a llama with random weights, the same ones every time."""
    writer = GGUFWriter(path, tiny.architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(tiny.context)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(100000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    vocabulary = add_vocabulary(writer, tiny.pre)
    writer.add_chat_template(tiny.template)
    random = np.random.default_rng(7)
    for name, shape, kind in tensors(tiny, vocabulary):
        values = random.standard_normal(shape).astype(np.float32) / np.sqrt(shape[-1])
        type_ = GGMLQuantizationType[kind]
        writer.add_tensor(name, quantize(values, type_), raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_vocabulary(writer: GGUFWriter, pre: str) -> int:
    tokens = ["<|endoftext|>", "<|im_end|>", *sorted(ByteLevel.alphabet()), "th", "the", "<tool>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 3) + [4])
    writer.add_token_merges(["t h", "th e"])
    writer.add_eos_token_id(1)
    return len(tokens)


def tensors(tiny: Tiny, vocabulary: int) -> Iterator[tuple[str, tuple[int, ...], str]]:
    head = HIDDEN // HEADS
    matrices = {
        "attn_q": (HIDDEN, HIDDEN),
        "attn_k": (KV_HEADS * head, HIDDEN),
        "attn_v": (KV_HEADS * head, HIDDEN),
        "attn_output": (HIDDEN, HIDDEN),
        "ffn_gate": (FEED_FORWARD, HIDDEN),
        "ffn_up": (FEED_FORWARD, HIDDEN),
        "ffn_down": (HIDDEN, FEED_FORWARD),
    }
    yield "token_embd.weight", (vocabulary, HIDDEN), tiny.embedding
    yield "output_norm.weight", (HIDDEN,), "F32"
    if tiny.output:
        yield "output.weight", (vocabulary, HIDDEN), tiny.output
    if tiny.extra_tensor:
        yield tiny.extra_tensor, (HIDDEN,), "F32"
    for layer in range(LAYERS):
        yield f"blk.{layer}.attn_norm.weight", (HIDDEN,), "F32"
        yield f"blk.{layer}.ffn_norm.weight", (HIDDEN,), "F32"
        for part, shape in matrices.items():
            kind = tiny.value_kind if part == "attn_v" and tiny.value_kind else tiny.kind
            yield f"blk.{layer}.{part}.weight", shape, kind


def write_tiny_folder(place: Path) -> Path:
    """Makes a model folder in `place`. Served, it answers requests for the default model."""
    gguf = write_tiny(place / "tiny.gguf", Tiny(context=SERVED_CONTEXT, template=CHATML))
    return _folder_of(gguf, "int4")


def write_small_folder(place: Path, real: Path) -> Path:
    """The same, with tokenizer, template and context length of the default model's folder."""
    context = ModelSpec.read(real).context_length
    return _folder_of(write_gguf(place / "small.gguf", real, context=context), "float32")


def _folder_of(gguf: Path, precision: str) -> Path:
    folder = gguf.with_name(precision)
    owner = known_model(DEFAULT_MODEL).owned_by
    origin = Origin(DEFAULT_MODEL, owner, gguf, {"file": gguf.name})
    write_folder(origin, precision, folder, silent)
    return folder
