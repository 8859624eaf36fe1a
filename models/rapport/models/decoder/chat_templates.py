"""The chat templates of a model, one of which may be for requests with tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rapport.models.errors import UnsupportedModelError

DEFAULT, TOOL_USE = "default", "tool_use"


@dataclass(frozen=True, slots=True)
class ChatTemplates:
    """Jinja templates that make a prompt of messages.

    `tool_use` takes the place of `default` where a request has tools, as in transformers.
    """

    default: str
    tool_use: str | None = None

    @classmethod
    def of(cls, templates: Mapping[str, str], source: object) -> ChatTemplates:
        """The templates of a source, by their names.

        Raises:
            UnsupportedModelError: none is the default.
        """
        if DEFAULT not in templates:
            raise UnsupportedModelError(
                f"{source} has no chat template, as base models do not: "
                "give one with --chat-template FILE"
            )
        return cls(templates[DEFAULT], templates.get(TOOL_USE))

    def write(self, token: str) -> bool:
        """Whether the token is in one of them."""
        return token in self.default or (self.tool_use is not None and token in self.tool_use)
