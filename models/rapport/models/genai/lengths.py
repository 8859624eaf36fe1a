"""What a graph computes from its mask of tokens, found out by running that part of it alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from rapport.models.errors import UnsupportedModelError
from rapport.models.genai.session import open_session

# The part is a few nodes.
MAX_NODES = 32
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])


class MaskLengths:
    """The lengths that a graph computes from the mask of this name."""

    def __init__(self, model: ModelProto, mask: str, where: Path) -> None:
        self.model = model
        self.nodes = list(model.graph.node)
        self.mask = mask
        self.where = where
        self.producers = {
            name: place for place, node in enumerate(self.nodes) for name in node.output if name
        }
        self.checked: set[tuple[str, str]] = set()

    def check(self, lasts: str, longest: str) -> None:
        """Checks that values are what the engine gives in their place.

        Args:
            lasts: of each sequence, its tokens minus one.
            longest: the mask's second dimension.

        Raises:
            UnsupportedModelError: they are something else.
        """
        if (lasts, longest) in self.checked:
            return
        counts, length = self._run([lasts, longest], MASK)
        if not np.array_equal(counts.ravel(), MASK.sum(1) - 1) or length.tolist() != MASK.shape[1]:
            raise self._unsupported(lasts, "other lengths than those of the mask")
        self.checked.add((lasts, longest))

    def holds(self, condition: str, length: int) -> bool:
        """Whether a condition on the mask holds for a sequence of this length.

        Raises:
            UnsupportedModelError: it depends on something else.
        """
        (value,) = self._run([condition], np.ones((1, length), np.int64))
        return bool(value.all())

    def _run(self, names: list[str], mask: NDArray[np.int64]) -> list[NDArray[np.generic]]:
        part = self._part(names)
        try:
            session = open_session(part, self.where.parent)
            values: list[NDArray[np.generic]] = session.run(None, {self.mask: mask})
        except Exception as error:  # the library raises nothing narrower
            raise self._unsupported(names[0], str(error).splitlines()[0]) from error
        return values

    def _part(self, names: list[str]) -> ModelProto:
        """The nodes that compute values from the mask."""
        kept: set[int] = set()
        used = set(names)
        wanted = list(names)
        while wanted:
            place = self.producers.get(wanted.pop())
            if place is None or place in kept:
                continue
            kept.add(place)
            wanted.extend(self.nodes[place].input)
            used.update(self.nodes[place].input)
            if len(kept) > MAX_NODES:
                raise self._unsupported(names[0], "too much goes into it")
        graph = helper.make_graph(
            [self.nodes[place] for place in sorted(kept)],
            "lengths",
            [helper.make_tensor_value_info(self.mask, TensorProto.INT64, ["batch", "total"])],
            [ValueInfoProto(name=name) for name in names],
            [each for each in self.model.graph.initializer if each.name in used],
        )
        return helper.make_model(
            graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version
        )

    def _unsupported(self, name: str, reason: str) -> UnsupportedModelError:
        return UnsupportedModelError(f"{self.where}: lengths {name[:100]!r}: {reason}")
