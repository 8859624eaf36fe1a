"""The precisions that a model can be imported in, and which of them to serve."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Weights = Literal["stored", "int8", "floats"]
CpuWeights = Literal["auto", "int4", "int8"]

CPU_FEATURES = Path("/proc/cpuinfo")
# Multiplies bytes and adds up four products at once. With it the runtime's kernel for 8-bit weights
# beats that for 4-bit ones; with AVX2 alone it takes half as long again.
BYTE_PRODUCTS = "avx512_vnni"


@dataclass(frozen=True, slots=True)
class Precision:
    """How a graph computes: the type of its activations and cache, and what weights become.

    `stored` keeps the bits of quantised weights, `int8` gives those of 4 bits 8 in larger blocks;
    either makes floats of matrices of different kinds that become one.
    With `int8_cache` the cache is made int8 afterwards (see int8_cache.py). With `small_table` the
    vectors of tokens stay quantised where the layers are floats: a slice of a prompt looks up few
    of them, and has the scores of one token, so that floats would cost memory and gain nothing.
    """

    element: str
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
    "prefill": Precision("float32", "floats", small_table=True),
}

CUDA_PRECISION = "float16"


def cpu_precision() -> str:
    """The precision that this machine's CPU is served with by default."""
    return cpu_precisions()[0]


def cpu_precisions(weights: CpuWeights = "auto", *, int8_cache: bool = False) -> list[str]:
    """The precisions that can be served on this machine's CPU, the fastest first."""
    if weights != "auto":
        kinds = [weights]
    else:
        kinds = ["int8", "int4"] if multiplies_bytes() else ["int4", "int8"]
    return [f"{kind}-kv8" if int8_cache else kind for kind in kinds]


def multiplies_bytes() -> bool:
    """Whether this machine's CPU has the instruction; not where no file of Linux says so."""
    try:
        return BYTE_PRODUCTS in CPU_FEATURES.read_text(encoding="utf-8").split()
    except OSError:
        return False
