"""What the limits of an API key are."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, NonNegativeInt


class Limits(BaseModel):
    """What a key may use; 0 is no limit. Users are those that requests of the key name."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    requests_per_minute: NonNegativeInt = 0
    """requests that a key may make in a minute; 0: no limit, as for all of these"""
    prompt_tokens_per_minute: NonNegativeInt = 0
    """tokens that the prompts of a key may have in a minute"""
    cache_adjusted_prompt_tokens_per_minute: NonNegativeInt = 0
    """the same without those that were in the prefix cache"""
    generated_tokens_per_minute: NonNegativeInt = 0
    """tokens that may be generated for a key in a minute"""
    concurrent: NonNegativeInt = 0
    """requests of a key that may be under way at once"""
    user_requests_per_minute: NonNegativeInt = 0
    """requests that each `user` of a key may make in a minute"""
    user_concurrent: NonNegativeInt = 0
    """requests of each `user` of a key that may be under way at once"""

    @classmethod
    def of(cls, given: BaseModel, default: Limits | None = None) -> Self:
        """The limits that a model's fields set; where they do not, those of `default`."""
        names = cls.model_fields.keys() & given.model_fields_set
        values = {name: getattr(given, name) for name in names}
        return cls(**((default or cls()).model_dump() | values))
