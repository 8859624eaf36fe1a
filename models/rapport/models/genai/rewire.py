"""Changes a decoder's graph from the inputs of onnxruntime-genai to those of the engine.

genai gives a mask of tokens, from which a few nodes compute the lengths that GroupQueryAttention
takes; the engine gives the lengths. genai takes logits of all tokens, or of the last one of each
sequence; the engine says of which rows it wants them, and the head computes no others. Weights are
not touched: the graph goes on to refer to them by their place in the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from rapport.models.errors import CorruptFileError, UnsupportedModelError
from rapport.models.genai.attention import SEQLENS_K, TOTAL, Attention
from rapport.models.genai.config import Decoder
from rapport.models.genai.lengths import MaskLengths
from rapport.models.onnx.names import INPUTS

# What may stand between the head's product and the logits.
AFTER_THE_HEAD = ("Add", "Cast", "Div", "Mul", "Tanh", "Where")
PRODUCTS = ("Gemm", "MatMul", "MatMulNBits")
NEW_INPUTS: dict[str, tuple[TensorProto.DataType, list[str]]] = {
    INPUTS["seqlens_k"]: (TensorProto.INT32, ["batch"]),
    INPUTS["total_sequence_length"]: (TensorProto.INT32, []),
    INPUTS["logit_rows"]: (TensorProto.INT64, ["rows"]),
}


def rewire(
    model: ModelProto, decoder: Decoder, attention: Attention, context_length: int, where: Path
) -> None:
    """Changes a graph in place.

    Raises:
        CorruptFileError: the graph contradicts itself.
        UnsupportedModelError: it computes lengths or logits in a way that is not known.
    """
    graph, lengths = model.graph, MaskLengths(model, decoder.inputs.attention_mask, where)
    _choose_branches(graph, lengths, context_length)
    for node in attention.nodes:
        lengths.check(node.input[SEQLENS_K], node.input[TOTAL])
        node.input[SEQLENS_K] = INPUTS["seqlens_k"]
        node.input[TOTAL] = INPUTS["total_sequence_length"]
    _gather_rows(graph, decoder.outputs.logits, where)
    kept = [decoder.outputs.logits, *attention.presents]
    _replace(graph.output, [value for value in graph.output if value.name in kept])
    _share_embedding(graph)
    _remove_unused(graph)
    _set_inputs(graph, decoder, attention.pasts, where)
    del graph.value_info[:]  # shapes are others now


def _choose_branches(graph: GraphProto, lengths: MaskLengths, context_length: int) -> None:
    """Takes the tables of angles that the longest context needs.

    If they changed with a prompt's length, its cached keys would be of other angles than its new
    ones, and a long prompt would change those of others beside it.
    """
    for node in [node for node in graph.node if node.op_type == "If"]:
        wanted = "then" if lengths.holds(node.input[0], context_length) else "else"
        branches = {each.name: each.g for each in node.attribute}
        tables = _constants_of(branches.get(f"{wanted}_branch", GraphProto()))
        if len(tables) != len(node.output):
            raise UnsupportedModelError(
                f"{lengths.where}: node {node.name[:100]!r}: branches of more than constants"
            )
        for name, table in zip(node.output, tables, strict=True):
            graph.initializer.add().CopyFrom(table)
            graph.initializer[-1].name = name
        graph.node.remove(node)


def _constants_of(branch: GraphProto) -> list[TensorProto]:
    """The outputs of a branch that are constants."""
    constants = {
        node.output[0]: node.attribute[0].t
        for node in branch.node
        if node.op_type == "Constant" and len(node.output) == len(node.attribute) == 1
    }
    return [constants[each.name] for each in branch.output if each.name in constants]


def _gather_rows(graph: GraphProto, logits: str, where: Path) -> None:
    """Has the head compute the logits [rows, vocab_size] of the rows that are asked for."""
    output = next((value for value in graph.output if value.name == logits), None)
    if output is None:
        raise CorruptFileError(f"{where}: no output {logits[:100]!r}")
    producers = {name: node for node in graph.node for name in node.output if name}
    product = _head(graph, producers, logits, where)
    hidden = _unpruned(producers, product.input[0])
    place = list(graph.node).index(product)
    flat, rows = "flat_hidden_states", "rows_of_hidden_states"
    product.input[0] = rows
    wanted = [flat, INPUTS["logit_rows"]]
    graph.node.insert(place, helper.make_node("Gather", wanted, [rows], name=rows))
    graph.node.insert(place, helper.make_node("Flatten", [hidden], [flat], name=flat, axis=2))
    _as_float32(graph, producers, output)


def _head(
    graph: GraphProto, producers: dict[str, NodeProto], logits: str, where: Path
) -> NodeProto:
    """The product with the head's weights, from which the logits come."""
    constants = {tensor.name for tensor in graph.initializer}
    for each in graph.node:
        if constants.issuperset(name for name in each.input if name):
            constants |= set(each.output)
    name = logits
    while (node := producers.get(name)) is not None:
        if node.op_type in PRODUCTS:
            return node
        computed = [given for given in node.input if given not in constants]
        if node.op_type not in AFTER_THE_HEAD or len(computed) != 1:
            break
        name = computed[0]
    raise UnsupportedModelError(
        f"{where}: {name[:100]!r}, of which the logits come, is no product with weights"
    )


def _unpruned(producers: dict[str, NodeProto], name: str) -> str:
    """The hidden states of all tokens, also where the graph goes on with the last one's."""
    unsqueeze = producers.get(name)
    if unsqueeze is None or unsqueeze.op_type != "Unsqueeze":
        return name
    gather = producers.get(unsqueeze.input[0])
    return name if gather is None or gather.op_type != "Gather" else gather.input[0]


def _as_float32(graph: GraphProto, producers: dict[str, NodeProto], output: ValueInfoProto) -> None:
    """Makes the logits an output [rows, vocab_size] in float32."""
    name, tensor = output.name, output.type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        narrow, outputs = "narrow_logits", producers[name].output
        outputs[list(outputs).index(name)] = narrow
        cast = helper.make_node("Cast", [narrow], [name], name=name, to=TensorProto.FLOAT)
        graph.node.append(cast)
    shape = ["rows", tensor.shape.dim[-1].dim_value if tensor.shape.dim else "tokens"]
    output.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))


def _share_embedding(graph: GraphProto) -> None:
    """Has an embedding that is the head's weights in another shape read them from the same place.

    The runtime would make a copy of what goes through a Reshape.
    """
    weights = {tensor.name: tensor for tensor in graph.initializer}
    shapes = {node.output[0]: _shape_in(node) for node in graph.node if node.op_type == "Constant"}
    for node in [node for node in graph.node if node.op_type == "Reshape"]:
        weight, shape = weights.get(node.input[0]), shapes.get(node.input[1])
        if weight is not None and shape is not None and math.prod(weight.dims) == math.prod(shape):
            shared = graph.initializer.add()
            shared.CopyFrom(weight)
            shared.name = node.output[0]
            shared.dims[:] = shape
            graph.node.remove(node)


def _shape_in(constant: NodeProto) -> list[int] | None:
    """The shape that a constant holds, if it is one."""
    for tensor in (attribute.t for attribute in constant.attribute if attribute.name == "value"):
        if tensor.data_type == TensorProto.INT64 and len(tensor.dims) == 1:
            with suppress(ValueError):  # it has fewer numbers than it says
                shape: list[int] = numpy_helper.to_array(tensor).tolist()
                return shape
    return None


def _remove_unused(graph: GraphProto) -> None:
    """Removes nodes and weights that no output needs."""
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted.update(node.input)
    _replace(graph.node, reversed(kept))
    _replace(graph.initializer, [each for each in graph.initializer if each.name in wanted])


def _set_inputs(graph: GraphProto, decoder: Decoder, pasts: list[str], where: Path) -> None:
    """Makes the engine's inputs the graph's, and checks that it needs no others."""
    named = {value.name: value for value in graph.input}
    kept = [decoder.inputs.input_ids, *pasts]
    for node in graph.node:
        if strange := named.keys() & set(node.input) - set(kept):
            raise UnsupportedModelError(
                f"{where}: node {node.name[:100]!r} needs the input {min(strange)[:100]!r}"
            )
        if taken := NEW_INPUTS.keys() & set(node.output):
            raise UnsupportedModelError(f"{where}: the name {min(taken)} is taken")
    if missing := [name for name in kept if name not in named]:
        raise CorruptFileError(f"{where}: no input {missing[0][:100]!r}")
    new = [helper.make_tensor_value_info(name, *type_) for name, type_ in NEW_INPUTS.items()]
    values = [named[name] for name in kept]
    _replace(graph.input, [values[0], *new, *values[1:]])


def _replace(repeated: object, values: Iterable[NodeProto | TensorProto | ValueInfoProto]) -> None:
    copies = list(values)
    del repeated[:]  # type: ignore[attr-defined]
    repeated.extend(copies)  # type: ignore[attr-defined]
