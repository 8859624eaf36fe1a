"""The precisions in which a model can be imported, and which of them to serve."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Weights = Literal["stored", "int8", "floats"]
WeightChoice = Literal["auto", "int4", "int8"]
Element = Literal["float32", "float16", "bfloat16"]

CPU_FEATURES = Path("/proc/cpuinfo")
# Instructions that multiply bytes and add up four products at once. With them the runtime's kernel
# for 8-bit weights is faster than that for 4-bit ones; with AVX2 alone it takes 1.5 times as long.
VNNI = "avx512_vnni"


@dataclass(frozen=True, slots=True)
class Precision:
    """How a graph computes: the type of its activations and cache, and the format of weights.

    `stored` keeps quantised weights as they are. `int8` converts 4-bit weights to 8 bits in larger
    blocks. Both use floats for matrices of different kinds that are merged into one.
    With `int8_cache` the cache is changed to int8 afterwards (see int8_cache.py). With
    `small_table` the token vectors stay quantised though the layers are floats: a slice of a prompt
    looks up few of them and needs the logits of one token, so floats would only take memory.
    """

    element: Element
    weights: Weights
    int8_cache: bool = False
    small_table: bool = False


PRECISIONS = {
    "int4": Precision("float32", "stored"),
    "int4-kv8": Precision("float32", "stored", int8_cache=True),
    "int8": Precision("float32", "int8"),
    "int8-kv8": Precision("float32", "int8", int8_cache=True),
    "float32": Precision("float32", "floats"),
    "float16": Precision("float16", "floats"),
    "bfloat16": Precision("bfloat16", "floats"),
    "int4-float16": Precision("float16", "stored"),
    "int8-float16": Precision("float16", "int8"),
    "prefill": Precision("float32", "floats", small_table=True),
}

CUDA_PRECISIONS = ("float16", "bfloat16", "int4-float16", "int8-float16")


def cuda_precision(weights: WeightChoice = "auto") -> str:
    """The precision that is served on a GPU."""
    return "float16" if weights == "auto" else f"{weights}-float16"


def cpu_precision() -> str:
    """The default precision on this machine's CPU."""
    return cpu_precisions()[0]


def cpu_precisions(weights: WeightChoice = "auto", *, int8_cache: bool = False) -> list[str]:
    """The precisions that can be served on this machine's CPU, fastest first.

    Unless others are asked for, float32 is the last, for models that are there in no other.
    """
    if weights != "auto":
        kinds = [weights]
    else:
        kinds = ["int8", "int4"] if _has_vnni() else ["int4", "int8"]
    if int8_cache:
        return [f"{kind}-kv8" for kind in kinds]
    return [*kinds, "float32"] if weights == "auto" else [*kinds]


def _has_vnni() -> bool:
    """Whether this machine's CPU has VNNI; False if there is no /proc/cpuinfo."""
    try:
        return VNNI in CPU_FEATURES.read_text(encoding="utf-8").split()
    except OSError:
        return False
