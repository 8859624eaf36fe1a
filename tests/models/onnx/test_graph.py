"""The graph computes what each architecture computes, checked against references in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from rapport.models.folder import Origin
from rapport.models.folder_writer import write_folder
from rapport.models.onnx.precision import PRECISIONS
from rapport.models.progress import silent
from tests.models.conftest import Decoder
from tests.models.reference import Reference
from tests.models.tiny import LONG, MODELS

TRANSFORMERS_LOGITS = Path(__file__).parents[1] / "transformers_logits.npz"
PROMPT = [1, 60, 70, 80, 90, 100, 2, 7, 7, 7, 200, 31]


@pytest.fixture
def built(
    tiny_gguf: Callable[..., Path], cache: Path, decoder: type[Decoder]
) -> Callable[..., tuple[Decoder, Reference]]:
    """Build a tiny model in a precision, beside its reference."""

    def build(precision: str, **departures: Any) -> tuple[Decoder, Reference]:
        gguf = tiny_gguf(**departures)
        folder = cache / "models" / "tiny" / precision
        write_folder(Origin("tiny", "tests", gguf, {}), precision, folder, silent)
        return decoder(folder, slots=3, room=128), Reference(gguf)

    return build


@pytest.mark.parametrize(("precision", "tolerance"), [("int4-kv8", 0.2), ("int8-kv8", 0.2)])
def test_logits_with_a_cache_of_8_bits(
    built: Callable[..., tuple[Decoder, Reference]], precision: str, tolerance: float
) -> None:
    """The kind of the cache is apart from that of the weights."""
    graph, reference = built(precision)
    logits = graph.run([PROMPT], [0], rows=range(len(PROMPT)))
    np.testing.assert_allclose(logits, reference.logits(PROMPT), atol=tolerance)


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("float32", 1e-4), ("float16", 0.05), ("int4", 0.15), ("int8", 0.15)],
)
@pytest.mark.parametrize(
    "departures",
    [
        {},
        {"kind": "Q4_0"},
        {"kind": "Q8_0", "embedding": "F16"},
        {"kind": "F16", "output": "Q8_0"},
        {"kind": "F32", "embedding": "Q4_1"},
        {"value_kind": "Q8_0", "output": "Q4_1"},
        {"value_kind": "F16", "kind": "Q5_1", "embedding": "Q5_0"},
        {"kind": "IQ4_NL", "embedding": "BF16"},
    ],
    ids=lambda departures: "-".join(f"{k}={v}" for k, v in departures.items()) or "usual",
)
def test_logits_are_a_llamas(
    built: Callable[..., tuple[Decoder, Reference]],
    precision: str,
    tolerance: float,
    departures: dict[str, str],
) -> None:
    """Whatever kinds of weights a file has, in every precision, its logits are a llama's."""
    graph, reference = built(precision, **departures)
    logits = graph.run([PROMPT], [0], rows=range(len(PROMPT)))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, reference.logits(PROMPT), atol=tolerance)


def test_steps_continue_a_prompt(built: Callable[..., tuple[Decoder, Reference]]) -> None:
    """Prefill in slices, then single steps: each gives the logits of the whole so far."""
    graph, reference = built("float32")
    expected = reference.logits(PROMPT)
    past = 0
    for length in (5, 3, 1, 1, 2):
        logits = graph.run([PROMPT[past : past + length]], [past])
        past += length
        np.testing.assert_allclose(logits[0], expected[past - 1], atol=1e-4)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("int4-kv8", 0.2)])
def test_the_context_holds_its_last_token(
    built: Callable[..., tuple[Decoder, Reference]],
    decoder: type[Decoder],
    cache: Path,
    precision: str,
    tolerance: float,
) -> None:
    """A slot that is as long as the context takes a token at its last place."""
    _, reference = built(precision)
    graph = decoder(cache / "models" / "tiny" / precision, room=128)
    ids = [1, *(int(id_) for id_ in np.random.default_rng(3).integers(2, 258, 127))]
    graph.run([ids[:-1]], [0])
    logits = graph.run([ids[-1:]], [127])
    np.testing.assert_allclose(logits[0], reference.logits(ids)[-1], atol=tolerance)


def test_rows_of_a_batch_are_independent(
    built: Callable[..., tuple[Decoder, Reference]],
) -> None:
    """Sequences of different lengths decode together as each would alone."""
    graph, reference = built("float32")
    prompts = [PROMPT, PROMPT[3:8], PROMPT[::-1]]
    for slot, prompt in enumerate(prompts):
        graph.run([prompt[:-1]], [0], slot=slot)
    past = [len(prompt) - 1 for prompt in prompts]
    logits = graph.run([prompt[-1:] for prompt in prompts], past)
    expected = [reference.logits(prompt)[-1] for prompt in prompts]
    np.testing.assert_allclose(logits, expected, atol=1e-4)


# The CPU has no kernels for bfloat16.
@pytest.mark.parametrize("precision", [each for each in PRECISIONS if each != "bfloat16"])
def test_logits_for_no_row(built: Callable[..., tuple[Decoder, Reference]], precision: str) -> None:
    """A slice of a prompt may ask for no logits at all and still fills the cache."""
    graph, _ = built(precision)
    whole = graph.run([PROMPT], [0])
    assert graph.run([PROMPT[:8]], [0], slot=1, rows=[]).shape == (0, whole.shape[1])
    np.testing.assert_allclose(graph.run([PROMPT[8:]], [8], slot=1), whole, atol=0.02)


def test_other_slots_are_left_alone(built: Callable[..., tuple[Decoder, Reference]]) -> None:
    """Working on a window of the slots changes no byte of the slots around it."""
    graph, _ = built("int4")
    for buffer in graph.cache.values():
        buffer[:] = 7
    graph.run([PROMPT], [0], slot=1)
    graph.run([[5]], [len(PROMPT)], slot=1)
    for buffer in graph.cache.values():
        assert (buffer[[0, 2]] == 7).all()
        assert not (buffer[1, :, : len(PROMPT) + 1] == 7).all()


def test_model_is_valid_onnx(cache: Path, tiny_gguf: Callable[..., Path]) -> None:
    """ONNX's checker accepts the model, less the operators that are ONNX Runtime's own."""
    for precision in PRECISIONS:
        folder = cache / "models" / "tiny" / precision
        write_folder(Origin("tiny", "tests", tiny_gguf(), {}), precision, folder, silent)
        path = folder / "model.onnx"
        model = onnx.load(path, load_external_data=False)
        for node in model.graph.node:
            if node.op_type == "SimplifiedLayerNormalization":
                # ONNX Runtime has it in the standard domain, which does not know it.
                node.domain = "com.microsoft"
        onnx.save(model, path)
        onnx.checker.check_model(path, full_check=False)


def test_nodes_of_a_layer(cache: Path, built: Callable[..., object]) -> None:
    """A layer costs 20 nodes in int4 and 12 otherwise: dispatching them is much of a step."""
    for precision, nodes in (("int4", 20), ("int8", 12), ("float32", 12)):
        built(precision)
        path = cache / "models" / "tiny" / precision / "model.onnx"
        model = onnx.load(path, load_external_data=False)
        fixed = {"int4": 13, "int8": 13, "float32": 7}[precision]
        assert len(model.graph.node) == 2 * nodes + fixed


def test_tied_table_is_stored_once(cache: Path, built: Callable[..., object]) -> None:
    """The token embedding that is also the head takes its bytes on disk once."""
    for precision in ("int4", "int8", "float32", "float16"):
        _, reference = built(precision)
        path = cache / "models" / "tiny" / precision / "model.onnx"
        weights = onnx.load(path).graph.initializer
        table = reference.tensors["token_embd.weight"].size
        assert sum(np.prod(tensor.dims) == table for tensor in weights) == 1


@pytest.mark.parametrize("departures", MODELS.values(), ids=MODELS.keys())
def test_logits_are_those_of_the_architecture(
    built: Callable[..., tuple[Decoder, Reference]], departures: dict[str, Any]
) -> None:
    """In a prompt longer than the window, slice by slice and token by token."""
    graph, reference = built("float32", kind="F32", **departures)
    expected = reference.logits(LONG)
    for start, end in ((0, 40), (40, 90), *((place, place + 1) for place in range(90, 100))):
        logits = graph.run([LONG[start:end]], [start], rows=range(end - start))
        np.testing.assert_allclose(logits, expected[start:end], atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_transformers(
    built: Callable[..., tuple[Decoder, Reference]], name: str
) -> None:
    """tools/transformers_logits.py has recorded what transformers makes of the same weights."""
    graph, _ = built("float32", kind="F32", embedding="F32", **MODELS[name])
    expected = np.load(TRANSFORMERS_LOGITS)
    rows = expected["rows"]
    logits = graph.run([LONG], [0], rows=rows)
    np.testing.assert_allclose(logits, expected[name], atol=1e-5)


@pytest.mark.parametrize(("precision", "tolerance"), [("int4", 0.15), ("int8-kv8", 0.3)])
@pytest.mark.parametrize("architecture", ["qwen2", "phi3", "gemma3", "olmo2"])
def test_quantised_logits_are_near_those_of_the_architecture(
    built: Callable[..., tuple[Decoder, Reference]],
    architecture: str,
    precision: str,
    tolerance: float,
) -> None:
    """With matrices of two kinds side by side, biases and packed matrices."""
    value_kind = None if architecture == "phi3" else "Q8_0"
    graph, reference = built(precision, architecture=architecture, value_kind=value_kind)
    logits = graph.run([LONG], [0], rows=range(len(LONG)))
    expected = reference.logits(LONG)
    assert np.abs(logits - expected).mean() <= tolerance * expected.std()
