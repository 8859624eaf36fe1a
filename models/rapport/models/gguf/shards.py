"""The files that a model is split into: NAME-00001-of-00003.gguf and so on."""

from __future__ import annotations

import re
from pathlib import Path

from rapport.models.errors import CorruptFileError, UnknownModelError

SHARD = re.compile(r"(?P<name>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})")


def model_name(path: Path) -> str:
    """The name of a folder, or of a file without its ending and without the number of the shard."""
    if path.is_dir():
        return path.resolve().name
    shard = SHARD.fullmatch(path.stem)
    return shard["name"] if shard else path.stem


def shards_of(gguf: Path) -> list[Path]:
    """All files of a model of which one is given, in order; that file alone if it is not split.

    Raises:
        UnknownModelError: one of them is not there.
        CorruptFileError: the name has a number that cannot be.
    """
    paths = [gguf.with_name(name) for name in shard_names(gguf)]
    for path in paths:
        if not path.is_file():
            raise UnknownModelError(f"there is no file {path}")
    return paths


def shard_names(gguf: Path) -> list[str]:
    """The names of all files of a model of which one is given.

    Raises:
        CorruptFileError: the name has a number that cannot be.
    """
    shard = SHARD.fullmatch(gguf.stem)
    if shard is None:
        return [gguf.name]
    count = int(shard["count"])
    if not 1 <= int(shard["number"]) <= count:
        raise CorruptFileError(f"{gguf} is not one of {count} files")
    return [f"{shard['name']}-{place:05}-of-{count:05}.gguf" for place in range(1, count + 1)]
