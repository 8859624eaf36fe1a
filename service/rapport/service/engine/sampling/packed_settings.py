"""Settings of rows as the graph of candidates reads them, in one buffer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import onnxruntime as ort

from rapport.service.engine.runtime.upload_buffer import UploadBuffer, aligned
from rapport.service.engine.sampling.adjustments import MAX_ADJUSTED_TOKENS, NEUTRAL
from rapport.service.engine.sampling.row_candidates import RowSettings

# Settings of a row that nobody asks for.
UNUSED = RowSettings(np.float32(1), 0.0, NEUTRAL)
# Room for adjusted tokens in all rows of a run together.
MAX_ROOM = 2**16
ALL_ALLOWED = np.uint8(255)
# Sizes of uploads are multiples of it, so that there are few.
GRAIN_BYTES = 4096


class PackedSettings(NamedTuple):
    """Settings of the rows of one run. Those of masks are behind the others."""

    settings: Sequence[RowSettings | None]
    room: int
    """For how many adjusted tokens each row has room."""
    mask_bytes: int
    """Of each row; 0 if no row has a mask."""

    @property
    def size(self) -> int:
        """In bytes."""
        return aligned(self._mask_offset + len(self.settings) * self.mask_bytes, GRAIN_BYTES)

    @property
    def masked(self) -> bool:
        """Whether any row has a mask."""
        return self.mask_bytes > 0

    def has(self, settings: Sequence[RowSettings | None]) -> bool:
        """Whether these are the settings that were packed, and not only equal ones."""
        pairs = zip(settings, self.settings, strict=False)
        return len(settings) == len(self.settings) and all(one is other for one, other in pairs)

    def write(self, buffer: UploadBuffer, offset: int) -> None:
        """Writes them to the host's side of a buffer."""
        rows = [each or UNUSED for each in self.settings]
        settings = buffer.array(offset, self._shape, np.float32)
        for row, each in zip(settings, rows, strict=True):
            count = each.adjustments.shape[1]
            row[:, 0] = each.temperature, each.share, 0
            row[:, 1 : 1 + count] = each.adjustments
            # To adjust a token twice changes nothing: every time, its logit from before is taken.
            row[:, 1 + count :] = each.adjustments[:, :1]
        masks = buffer.array(offset + self._mask_offset, self._mask_shape, np.uint8)
        for mask, each in zip(masks, rows, strict=True):
            # It may have a few bytes more, to fill a word.
            mask[:] = ALL_ALLOWED if each.allowed is None else each.allowed[: self.mask_bytes]

    def bind(self, binding: ort.IOBinding, device: tuple[str, int], address: int) -> None:
        """Binds what lies at an address of the device as the graph's inputs."""
        binding.bind_input("settings", *device, np.float32, self._shape, address)
        if self.masked:
            start = address + self._mask_offset
            binding.bind_input("allowed", *device, np.uint8, self._mask_shape, start)

    @property
    def _shape(self) -> tuple[int, int, int]:
        return len(self.settings), 3, 1 + self.room

    @property
    def _mask_shape(self) -> tuple[int, int]:
        return len(self.settings), self.mask_bytes

    @property
    def _mask_offset(self) -> int:
        return aligned(len(self.settings) * 3 * (1 + self.room) * np.dtype(np.float32).itemsize)


class Uploaded(NamedTuple):
    """Settings that a device has, and where."""

    packed: PackedSettings
    address: int


def packed_settings(
    settings: Sequence[RowSettings | None], mask_bytes: int
) -> Iterator[PackedSettings]:
    """Those of the rows that run together: of all, unless some have many adjusted tokens.

    All rows of a run have room for as many, and those with few are not to wait for the others.
    """
    rows = [each or UNUSED for each in settings]
    start = 0
    for end in _ends(rows):
        room = max(each.adjustments.shape[1] for each in rows[start:end])
        masked = any(each.allowed is not None for each in rows[start:end])
        yield PackedSettings(settings[start:end], room, mask_bytes if masked else 0)
        start = end


def max_packed_bytes(rows: int, mask_bytes: int) -> int:
    """What the settings of up to so many rows take at most, with a mask for each."""
    columns = rows + min(MAX_ROOM, rows * MAX_ADJUSTED_TOKENS)
    settings = aligned(3 * columns * np.dtype(np.float32).itemsize)
    return aligned(settings + rows * mask_bytes, GRAIN_BYTES)


def _ends(rows: Sequence[RowSettings]) -> Iterator[int]:
    start = room = 0
    for place, row in enumerate(rows):
        room = max(room, row.adjustments.shape[1])
        if place > start and (place + 1 - start) * room > MAX_ROOM:
            yield place
            start, room = place, row.adjustments.shape[1]
    yield len(rows)
