"""A graph for ONNX Runtime that finds the candidates of rows of logits where these are.

Inputs, with R rows:
    logits      float32 [R, vocabulary]
    settings    float32 [R, 3, 1 + A]: temperature, share and 0 in the first column; in the others
                ids, factors and what is added of A adjusted tokens, which may repeat
    allowed     uint8 [R, vocabulary / 8], only if masked: a bit for each token, the lowest first
Output:
    candidates  float32 [R, width], which `Layout` reads

Numbers of tokens are in float32 too, which is exact up to `MAX_VOCABULARY_TOKENS`: so one array
goes to the device and one comes back. All nodes have CUDA kernels without cuDNN, as ReduceMax and
ReduceLogSumExp have not.
"""

from __future__ import annotations

import math
from string import Template
from typing import NamedTuple

import numpy as np
import onnx.parser
from onnx import numpy_helper

from rapport.service.engine.sampling.arrays import STRIDE, Floats
from rapport.service.engine.sampling.row_candidates import RowCandidates, RowSettings
from rapport.service.engine.sampling.top_k import HEAD_SIZES

MAX_VOCABULARY_TOKENS = 2**24
# How many of the largest logits a row gives back: a nucleus with more needs the whole row.
MAX_CANDIDATES = HEAD_SIZES[-1]

SOURCE = Template("""
<ir_version: 10, opset_import: ["" : 21]>
candidates (float[rows, $tokens] logits, float[rows, 3, columns] settings $mask_input)
    => (float[rows, width] candidates)
<int64[1] start = {0}, int64[1] second = {1}, int64[1] end = {2147483647},
 int64[1] axis = {1}, int64[1] within = {2}, int32 cumulated = {1}, float zero = {0},
 int64[1] count = {$count}, int64[4] filling = {0, 0, 0, $filling}, float lowest = {-3.4e38},
 int64[3] in_strides = {0, $strides, $stride}, int64[1] last_stride = {$last},
 float highest_stride = {$last}, float stride_size = {$stride},
 float[1, $stride] offsets = {$offsets}>
{
    first, second_row, third = Split <axis = 1, num_outputs = 3> (settings)
    id_row = Squeeze (first, axis)
    factor_row = Squeeze (second_row, axis)
    added_row = Squeeze (third, axis)
    temperature = Slice (id_row, start, second, axis)
    share = Slice (factor_row, start, second, axis)
    float_ids = Slice (id_row, second, end, axis)
    factors = Slice (factor_row, second, end, axis)
    added = Slice (added_row, second, end, axis)
    ids = Cast <to = 6> (float_ids)

    before = GatherElements <axis = 1> (logits, ids)
    positive = Greater (before, zero)
    divided = Div (before, factors)
    multiplied = Mul (before, factors)
    repeated = Where (positive, divided, multiplied)
    after = Add (repeated, added)
    $adjusted = ScatterElements <axis = 1> (logits, ids, after)
    $mask
    values, places = TopK <axis = 1> (adjusted, count)
    place_row = Cast <to = 1> (places)

    filled = Pad (logits, filling, lowest)
    largest, unused = TopK <axis = 1> (logits, second)
    distances = Sub (filled, largest)
    exponentials = Exp (distances)
    exponentials_in_strides = Reshape (exponentials, in_strides)
    stride_totals = ReduceSum <keepdims = 0> (exponentials_in_strides, within)
    total = ReduceSum <keepdims = 1> (stride_totals, axis)

    filled_adjusted = Pad (adjusted, filling, lowest)
    highest = Slice (values, start, second, axis)
    below_highest = Sub (filled_adjusted, highest)
    scaled = Div (below_highest, temperature)
    weights = Exp (scaled)
    weights_in_strides = Reshape (weights, in_strides)
    sums = ReduceSum <keepdims = 0> (weights_in_strides, within)
    cumulative = CumSum (sums, cumulated)
    all_weight = Slice (cumulative, last_stride, end, axis)
    wanted = Mul (all_weight, share)
    passed = LessOrEqual (cumulative, wanted)
    passed_ones = Cast <to = 1> (passed)
    strides_passed = ReduceSum <keepdims = 1> (passed_ones, axis)
    drawn_stride = Min (strides_passed, highest_stride)
    drawn_start = Mul (drawn_stride, stride_size)
    float_positions = Add (drawn_start, offsets)
    positions = Cast <to = 6> (float_positions)
    stride_logits = GatherElements <axis = 1> (filled_adjusted, positions)

    candidates = Concat <axis = 1>
        (largest, total, drawn_stride, sums, stride_logits, values, place_row, before)
}
""")
# In the graph that is masked: what is added to the logits of 8 tokens for each value of a byte.
MASK_INPUT = ", uint8[rows, bytes] allowed"
MASK = """
    allowed_bytes = Cast <to = 6> (allowed)
    refused_in_bytes = Gather (refused_of_byte, allowed_bytes)
    refused_and_rest = Reshape (refused_in_bytes, all_bits)
    refused = Slice (refused_and_rest, start, tokens, axis)
    adjusted = Add (before_mask, refused)
"""


class Layout(NamedTuple):
    """The rows of the output for a vocabulary of `tokens`."""

    tokens: int

    @property
    def strides(self) -> int:
        return -(-self.tokens // STRIDE)

    @property
    def mask_bytes(self) -> int:
        return -(-self.tokens // 8)

    @property
    def candidates(self) -> int:
        return min(MAX_CANDIDATES, self.tokens)

    def width(self, adjusted: int) -> int:
        """The numbers of a row, with room for some adjusted tokens."""
        return 3 + self.strides + STRIDE + 2 * self.candidates + adjusted

    def read(self, row: Floats, settings: RowSettings) -> RowCandidates:
        """What a row of the output says, that was computed with these settings."""
        largest, total, stride = row[:3].tolist()
        stride_logits = 3 + self.strides
        logits = stride_logits + STRIDE
        ids = logits + self.candidates
        adjusted = ids + self.candidates
        return RowCandidates(
            settings,
            normaliser=largest + (math.log(total) if total > 0 else math.nan),
            adjusted=row[adjusted : adjusted + settings.adjustments.shape[1]],
            logits=row[logits:ids],
            ids=row[ids:adjusted],
            size=self.tokens,
            sums=row[3:stride_logits],
            stride=stride,
            stride_logits=row[stride_logits:logits],
        )


def candidate_graph(tokens: int, *, masked: bool = False) -> bytes:
    """The serialised graph for a vocabulary of `tokens`.

    Raises:
        ValueError: the vocabulary is too large.
    """
    if tokens > MAX_VOCABULARY_TOKENS:
        raise ValueError(f"no candidates are found among more than {MAX_VOCABULARY_TOKENS} tokens")
    layout = Layout(tokens)
    text = SOURCE.substitute(
        tokens=tokens,
        count=layout.candidates,
        stride=STRIDE,
        strides=layout.strides,
        last=layout.strides - 1,
        filling=layout.strides * STRIDE - tokens,
        offsets=", ".join(map(str, range(STRIDE))),
        adjusted="before_mask" if masked else "adjusted",
        mask_input=MASK_INPUT if masked else "",
        mask=MASK if masked else "",
    )
    model = onnx.parser.parse_model(text)
    if masked:
        _add_mask_constants(model, tokens)
    return bytes(model.SerializeToString())


def _add_mask_constants(model: onnx.ModelProto, tokens: int) -> None:
    """Adds what the language of `SOURCE` has no numbers for, or only a mask needs."""
    allowed = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    constants = {
        "refused_of_byte": np.where(allowed, 0, -np.inf).astype(np.float32),
        "all_bits": np.array([0, -1]),
        "tokens": np.array([tokens]),
    }
    for name, array in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))


def row_graph(tokens: int) -> bytes:
    """A serialised graph that copies the rows `logits`, wherever they are, to `row`."""
    text = f"""<ir_version: 10, opset_import: ["" : 21]>
        row (float[rows, {tokens}] logits) => (float[rows, {tokens}] row)
        {{ row = Identity (logits) }}"""
    return bytes(onnx.parser.parse_model(text).SerializeToString())
