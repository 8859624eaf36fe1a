from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from rapport.common.model_spec import ModelSpec
from rapport.service.engine.kv.device import DeviceKeyValues, copy_graph


def test_the_copy_graph_copies_between_parts_of_a_buffer() -> None:
    """Run where there is no GPU, the graph that moves slots copies one part to another."""
    buffer = np.arange(24, dtype=np.float16).reshape(4, 2, 3)
    session = ort.InferenceSession(
        copy_graph(["past"], ["present"], np.float16, (2, 3)), providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    source, target = buffer[3].ctypes.data, buffer[1].ctypes.data
    binding.bind_input("past", "cpu", 0, np.float16, (2, 3), source)
    binding.bind_output("present", "cpu", 0, np.float16, (2, 3), target)
    session.run_with_iobinding(binding)
    assert (buffer[1] == buffer[3]).all()
    assert (buffer[2] == np.arange(12, 18).reshape(2, 3)).all()


def test_the_binding_plan_gives_each_run_of_slots_its_own_memory(
    cpu_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past and present of a run of slots are one address: that of its first slot."""
    base = 4096

    class Value:
        def data_ptr(self) -> int:
            return base

    def allocate(*_: object) -> Value:
        return Value()

    bound: dict[str, tuple[object, ...]] = {}

    class Recorder:
        def bind_input(self, name: str, *plan: object) -> None:
            bound[name] = plan

        bind_output = bind_input

    spec = ModelSpec.read(cpu_folder).model_copy(update={"kv_type": "float16"})
    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_shape_and_type", allocate)
    DeviceKeyValues(spec, slots=4).bind(Recorder(), 2, 2)
    slot = 3 * 8192 * 64 * 2
    plan = ("cuda", 0, np.float16, (2, 3, 8192, 64), base + 2 * slot)
    assert set(bound.values()) == {plan}
    assert len(bound) == 4 * spec.layers
