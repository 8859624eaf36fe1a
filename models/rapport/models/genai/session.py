"""Opens a graph of another's folder with ONNX Runtime, for one run."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort
from onnx import ModelProto

FATAL = 4  # the least that ONNX Runtime logs; errors are raised too


def open_session(model: ModelProto, folder: Path) -> ort.InferenceSession:
    """Opens a graph on the CPU.

    Args:
        model: the graph.
        folder: where its weights are, if it has them in a file of their own.

    Raises:
        Exception: the graph is not valid; ONNX Runtime raises nothing narrower.
    """
    options = ort.SessionOptions()
    options.log_severity_level = FATAL
    # One run does not pay for that, and weights that are only mapped take no memory.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(folder)
    )
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
