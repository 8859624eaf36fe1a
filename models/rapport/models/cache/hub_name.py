"""Names of models on the Hugging Face hub: hf:owner/name, or hf:owner/name:file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rapport.models.errors import UnknownModelError
from rapport.models.gguf.shards import model_name

PREFIX = "hf:"
NAME = re.compile(r"hf:(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)(:(?P<file>[^:]+))?")


@dataclass(frozen=True, slots=True)
class HubName:
    """A repository, as its owner and name, and the path of a GGUF file in it, if one is meant."""

    repository: str
    file: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubName:
        """Reads a name with its prefix.

        Raises:
            UnknownModelError: it is not of that form.
        """
        found = NAME.fullmatch(text)
        if found is None:
            raise UnknownModelError(
                f"{text!r} is not of the form hf:owner/name or hf:owner/name:file"
            )
        return cls(found["repository"], found["file"])

    @property
    def model_name(self) -> str:
        if self.file is None:
            return self.repository.partition("/")[2]
        return model_name(Path(self.file))

    def is_of(self, source: dict[str, str]) -> bool:
        """Whether a model folder with this source came from here."""
        same = source.get("hub") == self.repository
        return same and self.file in (None, source.get("file"))
