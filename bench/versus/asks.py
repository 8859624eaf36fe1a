"""Bodies of requests that both servers understand. The same seed gives the same body."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from bench.workload import WORDS

Body = dict[str, Any]
Message = dict[str, str]

TEXT = (
    "The old lighthouse stands on a low cliff at the northern end of the bay. It was built in 1874 "
    "by a company of masons from the valley, who carried the granite up the path on sledges drawn "
    "by oxen. Inside, a stair of 112 steps winds around an iron column to the lamp room. The lamp "
    "burned whale oil for its first nine years, then paraffin, and since the spring of 1931 it has "
    "run on electric current from a small turbine in the stream below. Keepers lived here with "
    "their families until 1968. The last of them, Anna Lindqvist, kept a garden of cabbages and "
    "roses behind a wall of turf, and wrote the weather into a green book every evening at six. "
    "Today the tower belongs to the town, and visitors climb it in summer for the view over the "
    "islands, the ferry lanes and the long grey line of the open sea."
)
SCHEMA: Body = {
    "type": "object",
    "properties": {
        "order_id": {"type": "integer", "minimum": 1, "maximum": 99999},
        "customer": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "maxLength": 24},
                "tier": {"type": "string", "enum": ["basic", "silver", "gold"]},
            },
            "required": ["name", "tier"],
            "additionalProperties": False,
        },
        "items": {
            "type": "array",
            "minItems": 2,
            "maxItems": 3,
            "items": {
                "type": "object",
                "properties": {
                    "product": {"type": "string", "maxLength": 20},
                    "quantity": {"type": "integer", "minimum": 1, "maximum": 99},
                    "status": {"type": "string", "enum": ["packed", "shipped", "backordered"]},
                },
                "required": ["product", "quantity", "status"],
                "additionalProperties": False,
            },
        },
        "gift": {"type": "boolean"},
    },
    "required": ["order_id", "customer", "items", "gift"],
    "additionalProperties": False,
}


def words(count: int, seed: str) -> str:
    """`count` words, of about as many tokens. Texts of different seeds share no prefix."""
    return " ".join(Random(seed).choices(WORDS, k=count))  # noqa: S311 - prompts, not secrets


def chat(messages: Sequence[Message], max_tokens: int) -> Body:
    """A request for a greedy answer of exactly `max_tokens` tokens."""
    return {
        "messages": list(messages),
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,
    }


def said(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def alone(prompt_words: int, max_tokens: int, seed: str) -> Body:
    """A request whose prompt shares nothing with others, not even the system message."""
    system, user = words(6, f"{seed}/system"), words(max(prompt_words - 6, 1), seed)
    return chat([said("system", system), said("user", user)], max_tokens)


def under(system: str, seed: str, max_tokens: int) -> Body:
    """A request with a short question after a system message that others share."""
    return chat([said("system", system), said("user", words(16, seed))], max_tokens)


def document(seed: str) -> Body:
    """A request for an order as JSON. The schema limits the length, so the model may end it."""
    wish = f"Write an order of a shop for office supplies as JSON. Notes: {words(24, seed)}"
    return {
        "messages": [said("user", wish)],
        "max_tokens": 400,
        "temperature": 0,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "order", "strict": True, "schema": SCHEMA},
        },
    }


def repeat(max_tokens: int) -> Body:
    """A request to repeat the text, with fewer tokens than it has, so that all are repetition."""
    wish = f"Repeat the following text exactly, word for word:\n\n{TEXT}"
    return chat([said("user", wish)], max_tokens)


def mixed(seed: str) -> Body:
    """A request of a mix: mostly short ones, some with a long prompt."""
    random = Random(f"mix/{seed}")  # noqa: S311 - a workload, not a secret
    prompt_words, max_tokens = random.choices([(60, 64), (300, 48), (1000, 32)], [6, 3, 1])[0]
    return alone(prompt_words, max_tokens, seed)
