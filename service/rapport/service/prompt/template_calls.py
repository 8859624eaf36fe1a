"""Finds out how a chat template takes and shows calls of tools, by rendering one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from rapport.service.prompt.turns import Call, JsonObject, Turn
from rapport.service.tools.call_format import FORMATS, GAP, HERMES, CallFormat

# Texts to look for in the output of a template.
PROBE, ARGUMENT, PROBE_ID = "probe", "argument", "call_probe"
TOOL: JsonObject = {
    "type": "function",
    "function": {
        "name": PROBE,
        "description": PROBE,
        "parameters": {
            "type": "object",
            "properties": {PROBE: {"type": "string", "description": PROBE}},
            "required": [PROBE],
        },
    },
}
QUESTION = Turn("user", PROBE)
ANSWER = Turn("assistant", "", (Call(PROBE, {PROBE: ARGUMENT}, PROBE_ID),))
# How templates write the id of a call, which no format has.
IDS = ('"id": "{id}", ', ', "id": "{id}"', "[CALL_ID]{id}")
# The only ids that Mistral's templates take.
SHORT_ID_CHARS = 9
SHORT_ID = re.compile(f"[A-Za-z0-9]{{{SHORT_ID_CHARS}}}")


@dataclass(frozen=True, slots=True)
class CallForm:
    """What a template takes: arguments as an object or as JSON text, ids as they are or short."""

    arguments_as_text: bool = False
    short_ids: bool = False

    def arguments(self, value: Any) -> Any:
        return json.dumps(value, ensure_ascii=False) if self.arguments_as_text else value

    def id(self, id_: str) -> str:
        """The id of a call, or one made of it."""
        if not self.short_ids or SHORT_ID.fullmatch(id_):
            return id_
        return sha256(id_.encode()).hexdigest()[:SHORT_ID_CHARS]


# Most templates write an object with `tojson`, some take its JSON text.
FORMS = tuple(CallForm(as_text, short) for short in (False, True) for as_text in (False, True))
Render = Callable[[Sequence[Turn], CallForm], str]


@dataclass(frozen=True, slots=True)
class TemplateCalls:
    """How a template takes calls, the format of calls, and what of it the template writes."""

    form: CallForm
    format: CallFormat = HERMES
    takes_tools: bool = False
    writes_calls: bool = False


NO_CALLS = TemplateCalls(CallForm(arguments_as_text=True))


def find_calls(render: Render) -> TemplateCalls:
    """How a template shows `TOOL` and calls of it. It renders nothing where it refuses."""
    said = {form: render([QUESTION, ANSWER], form) for form in FORMS}
    for form, text in said.items():
        if format_ := next(_formats_in(text, form.id(PROBE_ID)), None):
            return TemplateCalls(form, format_, takes_tools=True, writes_calls=True)
    if not any(ARGUMENT in text for text in said.values()):
        # Some show the tools, say how to call them, and leave it to the text.
        text = render([QUESTION], NO_CALLS.form)
        marked = [each for each in FORMATS if each.is_marked and each.marker in text]
        if marked and json.dumps(PROBE) in text:
            return TemplateCalls(NO_CALLS.form, marked[0], takes_tools=True)
    return NO_CALLS


def _formats_in(text: str, id_: str) -> Iterator[CallFormat]:
    for written in IDS:
        text = text.replace(written.format(id=id_), "")
    for each in FORMATS:
        marker = re.escape(each.marker) + GAP if each.is_marked else ""
        head = each.head_pattern(PROBE, leading=each.opening)
        if re.search(rf'{marker}{head}"{PROBE}":\s*"{ARGUMENT}"\}}', text):
            yield each
