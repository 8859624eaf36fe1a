"""Rotary position embeddings: the frequencies of the angles, and how they are scaled."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rapport.models.decoder.source import Source
from rapport.models.weights.blocks import Floats

DEFAULT_BASE = 10000.0
SCALINGS = ("none", "linear", "yarn", "longrope")
# Of YaRN: how often a dimension turns within the original context to be kept, or interpolated.
BETA_FAST, BETA_SLOW = 32.0, 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Rope:
    """Angles [position, size / 2] are positions times frequencies.

    Sines and cosines are multiplied by `magnitude`.
    """

    frequencies: NDArray[np.float64]
    magnitude: float = 1.0

    def tables(self, positions: int) -> tuple[Floats, Floats]:
        """Cosines and sines [positions, size / 2]."""
        angles = np.outer(np.arange(positions), self.frequencies)
        return self._scaled(np.cos(angles)), self._scaled(np.sin(angles))

    def _scaled(self, values: NDArray[np.float64]) -> Floats:
        return (self.magnitude * values).astype(np.float32)


def unscaled_rope(size: int, base: float) -> Rope:
    exponents = np.arange(0, size, 2) / size
    return Rope(base**-exponents)


def read_rope(source: Source, size: int, context_length: int) -> Rope:
    """The rotation of `size` dimensions, scaled as the source says.

    Raises:
        CorruptFileError: a key or tensor of it is not what it should be.
        UnsupportedModelError: the kind of scaling is not known.
    """
    rope = unscaled_rope(size, source.positive("rope.freq_base", DEFAULT_BASE))
    scaling = source.said("rope.scaling.type", str, "none")
    if scaling not in SCALINGS:
        raise source.unsupported(f"rope scaling {scaling}", SCALINGS)
    if scaling == "yarn":
        return _yarn(source, rope, size)
    rope = _divided(source, rope, context_length)
    factor = source.positive("rope.scaling.factor", 1.0) if scaling == "linear" else 1.0
    return Rope(rope.frequencies / factor, rope.magnitude)


def _divided(source: Source, rope: Rope, context_length: int) -> Rope:
    """The frequencies divided by factors of the source: those of Llama 3, or of Phi's LongRoPE.

    LongRoPE has factors for long and for short contexts. Keys are cached with their rotation, so
    one of them is for all positions: the long ones, where the context is longer than the original.
    """
    original = source.said("rope.scaling.original_context_length", int, context_length)
    which = "long" if context_length > original else "short"
    longrope = f"rope_factors_{which}.weight" in source.tensors
    name = f"rope_factors_{which}.weight" if longrope else "rope_freqs.weight"
    if name not in source.tensors:
        return rope
    factors = source.vector(name).astype(np.float64)
    if factors.shape != rope.frequencies.shape or not (factors > 0).all():
        raise source.corrupt(f"tensor {name} is not {len(rope.frequencies)} positive factors")
    magnitude = source.positive("rope.scaling.attn_factor", 1.0) if longrope else 1.0
    return Rope(rope.frequencies / factors, magnitude)


def _yarn(source: Source, rope: Rope, size: int) -> Rope:
    """YaRN (https://arxiv.org/abs/2309.00071): only slow dimensions are interpolated."""
    factor = source.positive("rope.scaling.factor")
    original = source.count("rope.scaling.original_context_length")
    base = source.positive("rope.freq_base", DEFAULT_BASE)
    if base <= 1:
        raise source.corrupt(f"its rope.freq_base is {base}, not over 1")

    def dimension(turns: float) -> float:
        """The dimension that turns so often within the original context."""
        return size * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

    fast = source.positive("rope.scaling.yarn_beta_fast", BETA_FAST)
    slow = source.positive("rope.scaling.yarn_beta_slow", BETA_SLOW)
    low = max(math.floor(dimension(fast)), 0)
    high = min(math.ceil(dimension(slow)), size - 1)
    ramp = (np.arange(size // 2) - low) / max(high - low, 0.001)
    interpolated = ramp.clip(0, 1)
    frequencies = rope.frequencies * (interpolated / factor + 1 - interpolated)
    magnitude = 0.1 * math.log(factor) + 1 if factor > 1 else 1.0
    return Rope(frequencies, magnitude * source.positive("rope.scaling.attn_factor", 1.0))
