"""Runs a graph once, as the engine does, to see that it computes what it is stated to."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from rapport.models.errors import UnsupportedModelError
from rapport.models.genai.model import GenaiModel
from rapport.models.genai.session import open_session

TOKENS = 2


def try_out(model: GenaiModel) -> None:
    """Runs two sequences of two tokens.

    Raises:
        UnsupportedModelError: the graph does not run on the CPU, or its results are of other
            shapes than the configuration says.
    """
    try:
        logits = _logits(model)
    except Exception as error:  # the library raises nothing narrower
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UnsupportedModelError(f"{model.graph_file} does not run here: {reason}") from error
    expected = (2 * TOKENS, model.config.vocab_size)
    if logits.shape != expected:
        raise UnsupportedModelError(
            f"{model.graph_file}: logits are {logits.shape}, {expected} stated"
        )
    if not np.isfinite(logits).all():
        raise UnsupportedModelError(f"{model.graph_file}: logits are not all finite")


def _logits(model: GenaiModel) -> NDArray[np.float32]:
    session = open_session(model.proto, model.path.resolve())
    binding = session.io_binding()
    values = {
        "input_ids": np.zeros((2, TOKENS), np.int64),
        "seqlens_k": np.full(2, TOKENS - 1, np.int32),
        "total_sequence_length": np.array(TOKENS, np.int32),
        "logit_rows": np.arange(2 * TOKENS, dtype=np.int64),
    }
    for name, value in values.items():
        binding.bind_cpu_input(model.inputs[name], value)
    decoder = model.decoder
    shape = (2, decoder.num_key_value_heads, 2 * TOKENS, decoder.head_size)
    caches = [np.zeros(shape, model.attention.kv_type) for _ in model.attention.pasts]
    names = zip(model.attention.pasts, model.attention.presents, caches, strict=True)
    for past, present, cache in names:
        # Keys and values are written in place.
        value = ort.OrtValue.ortvalue_from_numpy(cache)
        binding.bind_ortvalue_input(past, value)
        binding.bind_ortvalue_output(present, value)
    binding.bind_output(model.outputs["logits"])
    session.run_with_iobinding(binding)
    logits: NDArray[np.float32] = binding.get_outputs()[-1].numpy()
    return logits
