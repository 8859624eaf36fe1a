"""A folder that others wrote."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from rapport.models.errors import CorruptFileError

MAX_TEXT_BYTES = 2**20
# Hugging Face's cache keeps the files of snapshots/<commit> in blobs, behind links.
SNAPSHOTS, BLOBS = "snapshots", "blobs"

Schema = TypeVar("Schema", bound=BaseModel)


class SourceFolder:
    """Reads files of a folder by their names. None that is outside of it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._roots = [path.resolve()]
        if self._roots[0].parent.name == SNAPSHOTS:
            self._roots.append(self._roots[0].parent.parent / BLOBS)

    def check(self, names: Iterable[str]) -> None:
        """Checks files that need not be there.

        Raises:
            CorruptFileError: one is there, and is no regular file, or outside of the folder.
        """
        for name in names:
            if os.path.lexists(self.path / name):
                self._inside(self.path / name)

    def file(self, name: str) -> Path:
        """The path of a file, with links resolved.

        Raises:
            CorruptFileError: it is missing, no regular file, or outside of the folder.
        """
        path = self.path / name
        if not name or Path(name).name != name:
            raise CorruptFileError(f"{self.path}: {name[:100]!r} is not the name of a file")
        return self._inside(path)

    def _inside(self, path: Path) -> Path:
        if not path.is_file():
            raise CorruptFileError(f"{path} is missing, or no file")
        resolved = path.resolve()
        if not any(resolved.is_relative_to(root) for root in self._roots):
            raise CorruptFileError(f"{path} is a link to outside of the folder")
        return resolved

    def text(self, name: str) -> str:
        """The contents of a text file.

        Raises:
            CorruptFileError: as `file`, or it is too large or not in UTF-8.
            OSError: it cannot be read.
        """
        file = self.file(name)
        if (size := file.stat().st_size) > MAX_TEXT_BYTES:
            raise CorruptFileError(
                f"{self.path / name} has {size:,} bytes; {MAX_TEXT_BYTES:,} at most"
            )
        try:
            return file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise CorruptFileError(f"{self.path / name}: not UTF-8: {error.reason}") from error

    def json(self, name: str, schema: type[Schema]) -> Schema:
        """The contents of a JSON file.

        Raises:
            CorruptFileError: as `text`, or it is not JSON, or not as the schema says.
            OSError: it cannot be read.
        """
        try:
            return schema.model_validate_json(self.text(name))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise CorruptFileError(
                f"{self.path / name}: {f'{place}: ' if place else ''}{first['msg']}"
            ) from error
