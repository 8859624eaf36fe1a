"""Tools and response formats for requests."""

from __future__ import annotations

from tests.contract.callers import Json

WEATHER = "What is the weather in Paris, and what time is it there?"
CITY: Json = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
}
TOOLS: list[Json] = [
    {
        "type": "function",
        "function": {"name": "get_weather", "description": "The weather.", "parameters": CITY},
    },
    {"type": "function", "function": {"name": "get_time", "parameters": CITY, "strict": True}},
]
FORMATS: list[Json] = [
    {"type": "json_object"},
    {"type": "json_object", "schema": CITY},
    {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}},
    {"type": "json_schema", "json_schema": CITY},
    {"type": "grammar", "grammar": 'root ::= "yes" | "no"'},
    {"type": "regex", "regex": "[a-c]{3}"},
    {"type": "text"},
]
