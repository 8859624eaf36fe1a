"""What onnxruntime-genai's builder makes computes the same logits by the engine's inputs."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from rapport.models.genai.model import GenaiModel
from rapport.models.genai.writer import plan_lines, write_genai_folder
from rapport.models.progress import silent
from tests.models.conftest import Decoder
from tests.models.genai.conftest import FOLDERS, NAMES, Folder

# As tools/genai_folders.py has it.
PROMPT = [3 + (7 * place) % 250 for place in range(24)]
PRECISIONS = {"gemma2-float32": "float32", "llama-int4": "int4", "qwen3-int8": "int8"}


def decoder_of(folder: Folder) -> Decoder:
    final = folder.path.with_name("models") / "tiny"
    final.parent.mkdir(exist_ok=True)
    write_genai_folder(GenaiModel(folder.path), "tiny", {}, final, silent)
    return Decoder(final, slots=3, room=128)


def expected(name: str) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = np.load(FOLDERS / name / "logits.npy")
    return logits


@pytest.fixture(params=NAMES)
def made(request: pytest.FixtureRequest, genai: Folder) -> tuple[str, Decoder]:
    """A folder's name, and it as it is served."""
    name: str = request.param
    for file in (FOLDERS / name).iterdir():
        (genai.path / file.name).write_bytes(file.read_bytes())
    return name, decoder_of(genai)


def test_prompt(made: tuple[str, Decoder]) -> None:
    """A prompt has the logits of transformers, or of onnxruntime-genai for quantised weights."""
    name, decoder = made
    logits = decoder.run([PROMPT], [0], rows=range(len(PROMPT)))
    np.testing.assert_allclose(logits, expected(name), atol=1e-4)
    assert decoder.about["precision"] == PRECISIONS[name]


def test_decode(made: tuple[str, Decoder]) -> None:
    """So has each token behind its past, beyond a window too, and only the rows asked for."""
    name, decoder = made
    decoder.run([PROMPT[:6]], [0], rows=[])
    for place in range(6, len(PROMPT)):
        logits = decoder.run([[PROMPT[place]]], [place])
        np.testing.assert_allclose(logits, expected(name)[[place]], atol=1e-4)


def test_batch(made: tuple[str, Decoder]) -> None:
    """So have sequences of different lengths together."""
    name, decoder = made
    pasts = [20, 5, 9]
    for slot, past in enumerate(pasts):
        decoder.run([PROMPT[:past]], [0], slot=slot, rows=[])
    logits = decoder.run([[PROMPT[past]] for past in pasts], pasts)
    np.testing.assert_allclose(logits, expected(name)[pasts], atol=1e-4)


def test_head_of_the_last_token(genai: Folder) -> None:
    """A graph that goes on with the last token alone gives the rows that are asked for."""

    def prune(model: ModelProto) -> None:
        graph = model.graph
        head = next(node for node in graph.node if "logits" in node.output)
        place = list(graph.node).index(head)
        for name, value in (("last", np.array(-1)), ("axis", np.array([1]))):
            graph.initializer.append(numpy_helper.from_array(value, name))
        graph.node.insert(
            place, helper.make_node("Gather", [head.input[0], "last"], ["row"], axis=1)
        )
        graph.node.insert(place + 1, helper.make_node("Unsqueeze", ["row", "axis"], ["rows"]))
        head.input[0] = "rows"

    genai.change(prune)
    logits = decoder_of(genai).run([PROMPT], [0], rows=range(len(PROMPT)))
    np.testing.assert_allclose(logits, expected("llama-int4"), atol=1e-4)


def in_branches(folder: Folder, limit: int) -> None:
    """Puts the tables of angles in a branch for prompts of so many tokens at most."""

    def edit(model: ModelProto) -> None:
        graph = model.graph
        nodes = list(graph.node)
        length = next(node for node in nodes if node.op_type == "Gather" and "mask" in node.name)
        place = next(nodes.index(node) for node in nodes if node.op_type == "GroupQueryAttention")
        tables = [each for each in graph.initializer if each.name in ("cos_cache", "sin_cache")]
        branches = {
            "then_branch": helper.make_graph([], "long", [], []),
            "else_branch": helper.make_graph([], "short", [], []),
        }
        for table in tables:
            values = table_of(folder, table)
            for branch, kept in (("then_branch", values * 0), ("else_branch", values)):
                name = f"{table.name}_{branch}"
                constant = numpy_helper.from_array(kept)
                node = helper.make_node("Constant", [], [name], value=constant)
                branches[branch].node.append(node)
                branches[branch].output.append(helper.make_tensor_value_info(name, 1, None))
            graph.initializer.remove(table)
        names = [table.name for table in tables]
        graph.initializer.append(numpy_helper.from_array(np.array(limit), "limit"))
        is_long = helper.make_node("Greater", [length.output[0], "limit"], ["is_long"])
        graph.node.insert(place, is_long)
        graph.node.insert(place + 1, helper.make_node("If", ["is_long"], names, **branches))

    folder.change(edit)


def table_of(folder: Folder, table: TensorProto) -> NDArray[np.float32]:
    offset = next(int(each.value) for each in table.external_data if each.key == "offset")
    shape = tuple(table.dims)
    values = np.fromfile(
        folder.path / "model.onnx.data", np.float32, int(np.prod(shape)), offset=offset
    )
    return values.reshape(shape)


@pytest.mark.parametrize(("limit", "same"), [(64, False), (128, True)])
def test_tables_of_two_lengths(genai: Folder, limit: int, same: bool) -> None:
    """Of tables for short and long prompts, all prompts get those that the context needs."""
    in_branches(genai, limit)
    logits = decoder_of(genai).run([PROMPT], [0], rows=range(len(PROMPT)))
    assert np.allclose(logits, expected("llama-int4"), atol=1e-4) == same


def test_embedding_and_head_share_weights(genai: Folder) -> None:
    """An embedding that is the head's in another shape is at the same place of the file."""
    weights = GenaiModel(genai.path).proto.graph.initializer
    head = next(each for each in weights if each.name == "lm_head.MatMul.weight_Q4")
    shared = [each for each in weights if each.external_data == head.external_data]
    assert [list(each.dims) for each in shared] == [[261, 1, 16], [261, 16]]


@pytest.mark.parametrize(
    "constant",
    [
        numpy_helper.from_array(np.array(5)),
        TensorProto(data_type=TensorProto.INT64, dims=[2], raw_data=b"few"),
        TensorProto(data_type=TensorProto.FLOAT, dims=[1], float_data=[4176.0]),
    ],
)
def test_a_constant_that_is_no_shape(genai: Folder, constant: TensorProto) -> None:
    """Weights are not shared by it, and nothing else is made of it."""

    def edit(model: ModelProto) -> None:
        nodes = list(model.graph.node)
        weight = model.graph.initializer[0].name
        del model.graph.node[:]
        model.graph.node.add().CopyFrom(helper.make_node("Constant", [], ["no"], value=constant))
        model.graph.node.add().CopyFrom(helper.make_node("Reshape", [weight, "no"], ["unused"]))
        model.graph.node.extend(nodes)

    genai.change(edit)
    assert not [node for node in GenaiModel(genai.path).proto.graph.node if "no" in node.input]


def test_description(genai: Folder) -> None:
    """model.json has what the engine needs, and the template's ends of a turn."""
    about = decoder_of(genai).about
    assert about["kv_type"] == "float32"
    assert about["context_length"] == 128
    assert about["eos_token_ids"] == [258, 259]
    assert about["special_tokens"] == {
        "bos_token": "<s>",
        "eos_token": "<|im_end|>",
        "pad_token": "<s>",
    }
    assert about["begins_with_bos"]


def test_plan(genai: Folder) -> None:
    """The plan says what the model is, and that its weights stay."""
    assert list(plan_lines("tiny", GenaiModel(genai.path))) == [
        "tiny: llama of onnxruntime-genai, 2 layers, context of 128 tokens",
        "  11 matrices of 4 bits in blocks of 32: kept as they are",
        "  0 MiB in int4: linked, not copied, where the cache is on the same disk",
    ]


def test_context_is_that_of_the_tables(genai: Folder) -> None:
    """A context that is longer than the tables of angles is theirs."""
    genai.configure("model.context_length", 1 << 20)
    assert GenaiModel(genai.path).context_length == 128
