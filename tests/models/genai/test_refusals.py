"""What cannot be served, and what is damaged or hostile, is refused by name, and at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from rapport.models.errors import CorruptFileError, ModelError, UnsupportedModelError
from rapport.models.genai.config import FILE_NAME
from rapport.models.importer import import_genai
from tests.models.genai.conftest import Folder

MAX_REFUSAL_S = 2  # of CPU time


@pytest.fixture
def refused(genai: Folder, cache: Path) -> Callable[[str], str]:
    """Imports the folder, which is refused: with a text that has this, and without a trace."""

    def check(text: str) -> str:
        began = time.process_time()
        with pytest.raises(ModelError) as raised:
            import_genai(genai.path)
        assert time.process_time() - began < MAX_REFUSAL_S
        message = str(raised.value)
        assert text in message
        assert "\n" not in message
        assert not cache.exists() or not [path for path in cache.rglob("*") if path.is_file()]
        return message

    return check


@pytest.mark.parametrize(
    ("place", "value", "text"),
    [
        ("model.decoder.head_size", None, "model.decoder.head_size: Input should be a valid int"),
        ("model.decoder.head_size", "16", "model.decoder.head_size: Input should be a valid int"),
        ("model.decoder.head_size", 0, "model.decoder.head_size: Input should be greater than 0"),
        ("model.decoder.head_size", 32, "does not run here"),
        ("model.decoder.num_hidden_layers", 10**9, "num_hidden_layers: Input should be less"),
        ("model.decoder.num_hidden_layers", 1, "2 layers, 1 stated"),
        ("model.decoder.num_hidden_layers", 3, "no GroupQueryAttention from 'past_key_values.2"),
        ("model.decoder.num_attention_heads", 5, "num_heads 4, 5 stated"),
        ("model.decoder.inputs.past_key_names", "%d%s", "past_key_names: String should match"),
        ("model.decoder.inputs.past_key_names", "{x}.%d", "past_key_names: String should match"),
        ("model.decoder.outputs.logits", "scores", "no output 'scores'"),
        ("model.decoder.filename", "../model.onnx", "'../model.onnx' is not the name of a file"),
        ("model.decoder.filename", "/etc/passwd", "'/etc/passwd' is not the name of a file"),
        ("model.decoder.filename", "other.onnx", "other.onnx is missing"),
        ("model.decoder.filename", "tokenizer.json", "tokenizer.json: not an ONNX model"),
        ("model.decoder.pipeline", [], "model.decoder.pipeline: several graphs"),
        ("model.encoder", {}, "model.encoder: only a decoder"),
        ("model.vision", {}, "model.vision: only a decoder"),
        ("model.context_length", 2**31 - 1, "model.context_length: Input should be less than"),
        ("model.vocab_size", 100, "eos_token_id: 258 is none of 100"),
        ("model.vocab_size", 259, "token 259 is none of 259 embeddings"),
        ("model.vocab_size", 300, "logits are (4, 261), (4, 300) stated"),
        ("model.eos_token_id", -1, "model.eos_token_id"),
        ("model", [], "model: Input should be an object"),
    ],
)
def test_configuration(
    genai: Folder, refused: Callable[[str], str], place: str, value: Any, text: str
) -> None:
    """A wrong value of genai_config.json is refused by its place."""
    genai.configure(place, value)
    refused(text)


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, '{"model": ' * 100_000, "\ud800", '{"model": 1e999}']
)
def test_broken_configuration(genai: Folder, refused: Callable[[str], str], text: str) -> None:
    """So is a file that is no JSON, however deep."""
    (genai.path / FILE_NAME).write_bytes(text.encode(errors="surrogatepass"))
    refused(f"{genai.path / FILE_NAME}: ")


def with_input(name: str) -> Callable[[ModelProto], object]:
    return lambda model: model.graph.input.append(
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
    )


def with_node(op_type: str, domain: str = "") -> Callable[[ModelProto], object]:
    return lambda model: model.graph.node.append(
        helper.make_node(op_type, ["input_ids"], ["extra"], name="extra", domain=domain)
    )


def with_attention(place: int, name: str) -> Callable[[ModelProto], object]:
    """Gives attention an input; empty ones stand before it."""

    def edit(model: ModelProto) -> None:
        node = next(node for node in model.graph.node if node.op_type == "GroupQueryAttention")
        node.input.extend([""] * (place + 1 - len(node.input)))
        node.input[place] = name

    return edit


def with_weight(**place: str) -> Callable[[ModelProto], object]:
    """Puts the first weight elsewhere."""

    def edit(model: ModelProto) -> None:
        for entry in model.graph.initializer[0].external_data:
            entry.value = place.get(entry.key, entry.value)

    return edit


def without_attention(model: ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "GroupQueryAttention":
            node.op_type = "MultiHeadAttention"


def with_cache_of_4_bits(model: ModelProto) -> None:
    for value in model.graph.input:
        if value.name.startswith("past"):
            value.type.tensor_type.elem_type = TensorProto.UINT8


def with_a_mask_elsewhere(model: ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "GroupQueryAttention")
    node.input[5] = node.input[6]


def with_function(model: ModelProto) -> None:
    model.functions.add().name = "f"


def with_a_circle(model: ModelProto) -> None:
    head = model.graph.node.pop()
    model.graph.node.append(helper.make_node("Mul", ["logits", "logits"], head.output))


def with_a_name_twice(model: ModelProto) -> None:
    model.graph.node[0].output[0] = "input_ids"


def with_huge_weight(model: ModelProto) -> None:
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([2**62, 2**62])


def with_few_inputs(model: ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "GroupQueryAttention")
    del node.input[5:]


def with_nodes(*nodes: NodeProto) -> Callable[[ModelProto], object]:
    """Puts nodes first, where those that change the graph find them."""

    def edit(model: ModelProto) -> None:
        others = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend([*nodes, *others])

    return edit


def constant_elsewhere() -> NodeProto:
    tensor = TensorProto(data_type=TensorProto.INT64, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="README.md")
    return helper.make_node("Constant", [], ["shape"], name="extra", value=tensor)


def branch_with(op_type: str, name: str) -> GraphProto:
    output = helper.make_tensor_value_info("out", TensorProto.INT64, [1])
    return helper.make_graph([helper.make_node(op_type, [], ["out"])], name, [], [output])


def choice(other: GraphProto) -> NodeProto:
    """A node that chooses between a branch with a constant and another."""
    branches = {"then_branch": branch_with("Constant", "then"), "else_branch": other}
    return helper.make_node("If", ["attention_mask"], ["choice"], name="extra", **branches)


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (with_few_inputs, "GroupQueryAttention has no output, or fewer inputs than 7"),
        (with_nodes(helper.make_node("Reshape", ["input_ids"], ["extra"])), "inputs than 2"),
        (with_nodes(helper.make_node("Unsqueeze", [], ["extra"])), "fewer inputs than 1"),
        (with_nodes(helper.make_node("Constant", [], [])), "Constant has no output"),
        (with_nodes(constant_elsewhere()), "node 'extra': a constant in another file"),
        (with_nodes(choice(branch_with("Loop", "else"))), "node 'extra': a graph"),
        (with_input("position_ids"), "input position_ids: rotary embeddings outside"),
        (with_input("inputs_embeds"), "input inputs_embeds: a decoder without its embedding"),
        (with_input("block_table"), "input block_table: paged attention"),
        (with_input("encoder_hidden_states"), "a decoder with an encoder"),
        (without_attention, "operator 'MultiHeadAttention' of com.microsoft"),
        (with_node("Run", "evil.ops"), "node 'extra': operator 'Run' of evil.ops"),
        (with_node("Loop"), "node 'extra': operator 'Loop'"),
        (with_node("ConstantOfShape"), "node 'extra': operator 'ConstantOfShape'"),
        (with_function, "function f"),
        (with_attention(9, "input_ids"), "GroupQueryAttention': position_ids"),
        (with_attention(10, "input_ids"), "GroupQueryAttention': an attention bias"),
        (with_attention(14, "input_ids"), "norms of queries and keys inside"),
        (with_attention(1, "nothing"), "takes 'nothing', which is not before it"),
        (with_attention(1, "input_ids"), "does not run here"),
        (with_a_circle, "takes 'logits', which is not before it"),
        (with_a_name_twice, "gives 'input_ids', which is there"),
        (with_cache_of_4_bits, "type of keys and values"),
        (with_a_mask_elsewhere, "other lengths than those of the mask"),
        (with_weight(location="../secret"), "'../secret' is not the name of a file"),
        (with_weight(location="/etc/passwd"), "'/etc/passwd' is not the name of a file"),
        (with_weight(location=""), "'' is not the name of a file"),
        (with_weight(offset="-1"), "are not in the 25,572 of model.onnx.data"),
        (with_weight(offset="25500"), "are not in the 25,572 of model.onnx.data"),
        (with_weight(length="1"), "1 stated, are not in"),
        (with_huge_weight, "are not in the 25,572 of model.onnx.data"),
        (lambda model: model.graph.node.pop(), "no product with weights"),
        (lambda model: model.graph.ClearField("node"), "no nodes"),
    ],
)
def test_graph(
    genai: Folder,
    refused: Callable[[str], str],
    edit: Callable[[ModelProto], object],
    text: str,
) -> None:
    """A graph that the engine cannot serve is refused by what it has."""
    genai.change(edit)
    refused(text)


def test_truncated_graph(genai: Folder, refused: Callable[[str], str]) -> None:
    """So is one that ends early, wherever."""
    data = (genai.path / "model.onnx").read_bytes()
    for size in range(0, len(data), 1999):
        (genai.path / "model.onnx").write_bytes(data[:size])
        refused("model.onnx")


def test_large_graph(genai: Folder, refused: Callable[[str], str]) -> None:
    """A graph of many small parts, which would take gigabytes, is not parsed."""
    nodes = b"\x0a\x00" * (2 << 20)
    length = len(nodes)
    size = bytes([length & 127 | 128, length >> 7 & 127 | 128, length >> 14 & 127 | 128])
    (genai.path / "model.onnx").write_bytes(b"\x3a" + size + bytes([length >> 21]) + nodes)
    refused("more than 150,000 fields")
    os.truncate(genai.path / "model.onnx", 65 << 20)
    refused("67,108,864 at most")


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "tokenizer.json", FILE_NAME])
def test_links_and_pipes(genai: Folder, refused: Callable[[str], str], name: str) -> None:
    """Nothing outside of the folder is read, and nothing waits for a pipe."""
    file = genai.path / name
    secret = genai.path.parent / "secret"
    file.rename(secret)
    file.symlink_to(secret)
    refused("is a link to outside of the folder")
    file.unlink()
    os.mkfifo(file)
    assert "no file" in refused(name)


def test_package(genai: Folder, cache: Path) -> None:
    """A package of variants is refused, and so is another precision than the folder's."""
    package = genai.path.rename(genai.path.with_suffix(".ortpackage"))
    with pytest.raises(UnsupportedModelError, match="a package of variants"):
        import_genai(package)
    folder = package.rename(genai.path)
    with pytest.raises(UnsupportedModelError, match="is in int4, not in int8"):
        import_genai(folder, precision="int8")
    assert not cache.exists()


def test_chat_template_is_needed(genai: Folder, cache: Path) -> None:
    """A base model needs a chat template; a damaged tokenizer is named."""
    (genai.path / "chat_template.jinja").unlink()
    with pytest.raises(UnsupportedModelError, match="give one with --chat-template FILE"):
        import_genai(genai.path)
    assert import_genai(genai.path, chat_template="{{ messages }}").is_relative_to(cache)
    (genai.path / "tokenizer.json").write_text("{}")
    with pytest.raises(CorruptFileError, match=r"tokenizer\.json"):
        import_genai(genai.path, chat_template="{{ messages }}")
