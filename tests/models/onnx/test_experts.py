"""Mixtures of experts compute what their weights say, in every form in which these are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from rapport.models.errors import UnsupportedModelError
from rapport.models.folder import Origin
from rapport.models.folder_writer import write_folder
from rapport.models.importer import import_file
from rapport.models.progress import silent
from tests.models.conftest import Decoder
from tests.models.reference import Reference
from tests.models.tiny import LONG

MIXTURE = {"architecture": "qwen3moe"}


@pytest.fixture
def write(tiny_gguf: Callable[..., Path], tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Write a tiny mixture in a precision; returns its folder and its GGUF file."""

    def write(precision: str, kind: str) -> tuple[Path, Path]:
        gguf, folder = tiny_gguf(kind=kind, **MIXTURE), tmp_path / precision
        write_folder(Origin("tiny", "tests", gguf, {}), precision, folder, silent)
        return folder, gguf

    return write


def operator(folder: Path) -> tuple[str, dict[str, Any]]:
    """The kind and the attributes of the node that computes the experts of the first layer."""
    nodes = onnx.load(folder / "model.onnx", load_external_data=False).graph.node
    node = next(node for node in nodes if node.op_type in ("MoE", "QMoE"))
    return node.op_type, {
        each.name: onnx.helper.get_attribute_value(each) for each in node.attribute
    }


@pytest.mark.parametrize(
    ("kind", "precision", "bits"),
    [
        ("Q4_0", "int4", 4),
        ("Q8_0", "int4", 8),
        ("Q5_0", "int4", 8),
        ("Q4_1", "int4", 8),
        ("Q4_0", "int8", 8),
        ("Q8_0", "int8-kv8", 8),
    ],
)
def test_quantised_experts_are_near_their_weights(
    write: Callable[..., tuple[Path, Path]],
    decoder: type[Decoder],
    kind: str,
    precision: str,
    bits: int,
) -> None:
    """Those with offsets become 8 bits, for which QMoE has zero points.

    The logits are those of the weights but for 8-bit activations, which may also let a token go
    to another expert of nearly the same score.
    """
    folder, gguf = write(precision, kind)
    name, attributes = operator(folder)
    assert (name, attributes["expert_weight_bits"]) == ("QMoE", bits)
    logits = decoder(folder, room=128).run([LONG], [0], rows=range(len(LONG)))
    expected = Reference(gguf).logits(LONG)
    assert np.median(np.abs(logits - expected)) <= 0.05 * expected.std()


@pytest.mark.parametrize("precision", ["int4", "float32"])
def test_floats_stay_floats(
    write: Callable[..., tuple[Path, Path]], decoder: type[Decoder], precision: str
) -> None:
    """A file of 16-bit weights keeps them, to within the rounding of float32."""
    folder, gguf = write(precision, "F16")
    assert operator(folder)[0] == "MoE"
    logits = decoder(folder, room=128).run([LONG], [0], rows=range(len(LONG)))
    np.testing.assert_allclose(logits, Reference(gguf).logits(LONG), atol=0.1)


@pytest.mark.parametrize(
    ("precision", "kind"), [("int4", "Q4_0"), ("int8", "Q4_0"), ("float32", "F32")]
)
def test_rows_of_a_batch_keep_their_answers(
    write: Callable[..., tuple[Path, Path]], decoder: type[Decoder], precision: str, kind: str
) -> None:
    """Tokens that go to the same expert are computed together, each as if it were alone."""
    folder, _ = write(precision, kind)
    graph = decoder(folder, slots=3, room=128)
    prompts = [LONG[:30], LONG[30:50], LONG[50:51]]
    for slot, prompt in enumerate(prompts):
        graph.run([prompt], [0], slot=slot)
    past, nexts = [len(prompt) for prompt in prompts], [[60], [70], [80]]
    together = graph.run(nexts, past)
    for slot in range(3):
        alone = graph.run([nexts[slot]], [past[slot]], slot=slot)
        np.testing.assert_allclose(together[slot], alone[0], atol=1e-5)


def test_precisions_of_a_gpu_are_refused(tiny_gguf: Callable[..., Path], cache: Path) -> None:
    """The operators are checked on the CPU alone; nothing is written."""
    with pytest.raises(
        UnsupportedModelError, match="experts in float16 is not supported; known: int4"
    ):
        import_file(tiny_gguf(**MIXTURE), "float16")
    assert not cache.exists()


@pytest.mark.usefixtures("cache")
def test_the_plan_says_what_becomes_of_experts(tiny_gguf: Callable[..., Path]) -> None:
    """How many there are, and that QMoE takes no offsets."""
    lines: list[str] = []
    import_file(tiny_gguf(**MIXTURE), "int4", announce=lines.append)
    assert "qwen3moe, 2 layers of 8 experts, 2 at a time," in lines[0]
    assert any("6 matrices of Q4_1: converted to 8 bits" in line for line in lines)
    assert any("8 matrices of Q4_1: kept exactly, in 4 bits" in line for line in lines)
