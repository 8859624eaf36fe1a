from __future__ import annotations

import numpy as np

from rapport.service.engine.kv.device import copy_graph
from rapport.service.engine.runtime.providers import CPU
from rapport.service.engine.runtime.session import open_session


def test_the_copy_graph_copies_between_parts_of_a_buffer() -> None:
    """Run where there is no GPU, the graph that moves tokens copies each row to its place."""
    buffer = np.arange(24, dtype=np.float16).reshape(4, 6)
    before = buffer.copy()
    session = open_session(copy_graph(2, np.float16), CPU)
    binding = session.io_binding()
    for row, (source, target) in enumerate([(3, 1), (2, 0)]):
        address, place = buffer[source, 2:].ctypes.data, buffer[target, 2:].ctypes.data
        binding.bind_input(f"source.{row}", "cpu", 0, np.float16, (3,), address)
        binding.bind_output(f"target.{row}", "cpu", 0, np.float16, (3,), place)
    session.run_with_iobinding(binding)
    assert (buffer[:2, 2:5] == before[[2, 3], 2:5]).all()
    buffer[:2, 2:5] = before[:2, 2:5]
    assert (buffer == before).all()
