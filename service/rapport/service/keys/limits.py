"""The rate limits of an API key."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, NonNegativeInt


class KeyLimits(BaseModel):
    """The limits of a key and of each `user` that its requests name; 0 is no limit."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    requests_per_minute: NonNegativeInt = 0
    """requests per minute of an API key; 0: no limit, as for all of these"""
    prompt_tokens_per_minute: NonNegativeInt = 0
    """prompt tokens per minute of an API key"""
    cache_adjusted_prompt_tokens_per_minute: NonNegativeInt = 0
    """prompt tokens per minute of an API key, not counting those found in the prefix cache"""
    generated_tokens_per_minute: NonNegativeInt = 0
    """generated tokens per minute of an API key"""
    concurrent: NonNegativeInt = 0
    """concurrent requests of an API key"""
    user_requests_per_minute: NonNegativeInt = 0
    """requests per minute of each `user` of an API key"""
    user_concurrent: NonNegativeInt = 0
    """concurrent requests of each `user` of an API key"""

    @classmethod
    def of(cls, given: BaseModel, default: KeyLimits | None = None) -> Self:
        """The limits that a model's fields set; where they are not set, those of `default`."""
        names = cls.model_fields.keys() & given.model_fields_set
        values = {name: getattr(given, name) for name in names}
        return cls(**((default or cls()).model_dump() | values))
