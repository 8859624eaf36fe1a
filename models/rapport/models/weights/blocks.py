"""The block formats of GGUF: where the quants, scales and offsets of weights are.

A weight is scale * (quant - middle) + offset, with a scale, and in some formats an offset, for each
group of 16 or 32 weights. The quants are unpacked for ONNX Runtime's MatMulNBits, which takes
2 ** (bits - 1) for the middle. Where there are offsets, quants are centred on that middle: the
nearer weights are to the offset, the less do 8-bit activations err.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import IQ4_NL, Q4_K
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

MIDDLE_4, MIDDLE_8 = 8, 128  # of 4 and of 8 bits


@dataclass(frozen=True, slots=True)
class Unpacked:
    """Blocks without their packing: quants [blocks, groups, group], the others [blocks, groups]."""

    quants: Bytes
    scales: Floats
    offsets: Floats | None = None


@dataclass(frozen=True, slots=True)
class Format:
    """How MatMulNBits holds the weights of a format, all of them exactly.

    `unpack` takes blocks [blocks, bytes of a block]; `halves` are the places of their float16.
    """

    bits: int
    group: int
    unpack: Callable[[Bytes], Unpacked]
    halves: Sequence[int] = (0,)
    has_offsets: bool = False

    @property
    def form(self) -> tuple[int, int, bool]:
        """What matrices must have in common to be one."""
        return self.bits, self.group, self.has_offsets


def half(blocks: Bytes, start: int) -> Floats:
    """The float16 at byte `start` of every block, [blocks, 1]."""
    raw = np.ascontiguousarray(blocks[:, start : start + 2])
    return raw.view(np.float16).astype(np.float32)


def _fields(packed: Bytes, width: int, bits: int) -> Bytes:
    """The bit fields of bytes [blocks, n], `width` bytes at a time, the lowest bits first.

    Returns [blocks, fields, width].
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    fields = (packed.reshape(len(packed), -1, 1, width) >> shifts) & np.uint8(2**bits - 1)
    return fields.reshape(len(packed), -1, width)


def _plain(quants: Bytes) -> Bytes:
    """The quants of blocks that are one group."""
    return quants.reshape(len(quants), 1, -1)


def _q4_0(blocks: Bytes) -> Unpacked:
    return Unpacked(_plain(_fields(blocks[:, 2:], 16, 4)), half(blocks, 0))


def _q4_1(blocks: Bytes) -> Unpacked:
    scales = half(blocks, 0)
    quants = _plain(_fields(blocks[:, 4:], 16, 4))
    return Unpacked(quants, scales, half(blocks, 2) + MIDDLE_4 * scales)


def _five_bits(low: Bytes, high: Bytes) -> Bytes:
    fifth = np.unpackbits(high, axis=1, bitorder="little") << np.uint8(4)
    return _plain(_fields(low, 16, 4).reshape(len(low), -1) | fifth)


def _q5_0(blocks: Bytes) -> Unpacked:
    quants = _five_bits(blocks[:, 6:], blocks[:, 2:6])
    return Unpacked(quants + np.uint8(MIDDLE_8 - 16), half(blocks, 0))


def _q5_1(blocks: Bytes) -> Unpacked:
    scales = half(blocks, 0)
    quants = _five_bits(blocks[:, 8:], blocks[:, 4:8]) + np.uint8(MIDDLE_8 - 16)
    return Unpacked(quants, scales, half(blocks, 2) + 16 * scales)


def _q8_0(blocks: Bytes) -> Unpacked:
    return Unpacked(_plain(blocks[:, 2:]) ^ np.uint8(MIDDLE_8), half(blocks, 0))


def _q2_k(blocks: Bytes) -> Unpacked:
    packed, quants = blocks[:, :16], _fields(blocks[:, 16:80], 32, 2).reshape(len(blocks), 16, 16)
    scales = half(blocks, 80) * (packed & 0x0F)
    offsets = scales - half(blocks, 82) * (packed >> 4)
    return Unpacked(quants + np.uint8(MIDDLE_4 - 1), scales, offsets)


def _q3_k(blocks: Bytes) -> Unpacked:
    high, low = _fields(blocks[:, :32], 32, 1), _fields(blocks[:, 32:96], 32, 2)
    quants = (low | high << np.uint8(2)).reshape(len(blocks), 16, 16)
    lower = _fields(blocks[:, 96:104], 8, 4).reshape(len(blocks), 16)
    upper = _fields(blocks[:, 104:108], 4, 2).reshape(len(blocks), 16)
    scales = (lower | upper << np.uint8(4)).astype(np.float32) - 32
    return Unpacked(quants + np.uint8(MIDDLE_4 - 4), half(blocks, 108) * scales)


def _scales_and_minimums(blocks: Bytes) -> tuple[Floats, Floats]:
    scales, minimums = Q4_K.get_scale_min(np.ascontiguousarray(blocks[:, 4:16]))
    return half(blocks, 0) * scales, half(blocks, 2) * minimums


def _q4_k(blocks: Bytes) -> Unpacked:
    scales, minimums = _scales_and_minimums(blocks)
    return Unpacked(_fields(blocks[:, 16:], 32, 4), scales, MIDDLE_4 * scales - minimums)


def _q5_k(blocks: Bytes) -> Unpacked:
    scales, minimums = _scales_and_minimums(blocks)
    fifth = _fields(blocks[:, 16:48], 32, 1) << np.uint8(4)
    quants = (_fields(blocks[:, 48:], 32, 4) | fifth) + np.uint8(MIDDLE_8 - 16)
    return Unpacked(quants, scales, 16 * scales - minimums)


def _q6_k(blocks: Bytes) -> Unpacked:
    low = _fields(blocks[:, :128], 64, 4).reshape(len(blocks), 16, 16)
    high = _fields(blocks[:, 128:192], 32, 2).reshape(len(blocks), 16, 16)
    quants = (low | high << np.uint8(4)) + np.uint8(MIDDLE_8 - 32)
    return Unpacked(quants, half(blocks, 208) * blocks[:, 192:208].view(np.int8))


CURVE = np.array(IQ4_NL.kvalues, np.int16).astype(np.uint8) ^ np.uint8(MIDDLE_8)


def _iq4_nl(blocks: Bytes) -> Unpacked:
    return Unpacked(_plain(CURVE[_fields(blocks[:, 2:], 16, 4)]), half(blocks, 0))


def _iq4_xs(blocks: Bytes) -> Unpacked:
    count = len(blocks)
    quants = CURVE[_fields(blocks[:, 8:], 16, 4)].reshape(count, 8, 32)
    # Byte by byte, the lower and the upper bits of two and of four scales.
    lower = _fields(blocks[:, 4:8], 1, 4).reshape(count, 8)
    upper = _fields(blocks[:, 2:4], 1, 2).reshape(count, 8)
    scales = (lower | upper << np.uint8(4)).astype(np.float32) - 32
    return Unpacked(quants, half(blocks, 0) * scales)


FORMATS = {
    GGMLQuantizationType.Q4_0: Format(4, 32, _q4_0),
    GGMLQuantizationType.Q4_1: Format(4, 32, _q4_1, halves=(0, 2), has_offsets=True),
    GGMLQuantizationType.Q5_0: Format(8, 32, _q5_0),
    GGMLQuantizationType.Q5_1: Format(8, 32, _q5_1, halves=(0, 2), has_offsets=True),
    GGMLQuantizationType.Q8_0: Format(8, 32, _q8_0),
    GGMLQuantizationType.Q2_K: Format(4, 16, _q2_k, halves=(80, 82), has_offsets=True),
    GGMLQuantizationType.Q3_K: Format(4, 16, _q3_k, halves=(108,)),
    GGMLQuantizationType.Q4_K: Format(4, 32, _q4_k, halves=(0, 2), has_offsets=True),
    GGMLQuantizationType.Q5_K: Format(8, 32, _q5_k, halves=(0, 2), has_offsets=True),
    GGMLQuantizationType.Q6_K: Format(8, 16, _q6_k, halves=(208,)),
    GGMLQuantizationType.IQ4_NL: Format(8, 32, _iq4_nl),
    GGMLQuantizationType.IQ4_XS: Format(8, 32, _iq4_xs),
}
