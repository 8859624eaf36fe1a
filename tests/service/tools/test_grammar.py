from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rapport.service.engine.errors import ConstraintFailedError
from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.errors import InvalidRequestError
from rapport.service.tools.call_format import FORMATS, HERMES, CallFormat
from rapport.service.tools.grammar import tool_call_grammar
from rapport.service.tools.tool_choice import NO_PARAMETERS, Function, ToolPolicy
from tests.service.tools.calls import hermes_call

SIZE = 49152
END = 2
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["c", "f"]}},
    "required": ["city"],
}
# What no grammar can express.
BEYOND = {"type": "object", "properties": {"a": {"not": {"required": ["b"]}}}}
# What nothing satisfies, which only the engine finds out.
NOTHING = {"properties": {"a": {"minItems": 3, "maxItems": 2, "type": "array"}}, "required": ["a"]}
F = hermes_call("f", '{"city": "Paris <tool_call>", "unit": "c"}')
G = hermes_call("g", "{}")
BARE_F = '{"name": "f", "arguments": {"city": "Paris", "unit": "c"}}'
BARE_G = '{\n  "name": "g",\n  "parameters": {}\n}'


@pytest.fixture(scope="module")
def vocabulary(cpu_folder: Path) -> Vocabulary:
    return Vocabulary.read(cpu_folder, SIZE)


@pytest.fixture(scope="module")
def compiler(vocabulary: Vocabulary) -> GrammarCompiler:
    return GrammarCompiler(vocabulary, [END])


@pytest.fixture
def allows(vocabulary: Vocabulary, compiler: GrammarCompiler) -> Any:
    """Whether a text may come, and be the whole."""

    def allowed(tools: ToolPolicy, text: str, *, loose: bool = False) -> bool:
        source = tool_call_grammar(tools, loose=loose, checked=not loose)
        constraint = compiler.compile(source.text).start()
        try:
            for token in vocabulary.encode_text(text):
                constraint.accept(token)
        except ConstraintFailedError:
            return False
        return constraint.complete

    return allowed


def use(parameters: dict[str, Any] = CITY, *, strict: bool = False, **how: Any) -> ToolPolicy:
    f = Function("f", parameters, "tools[0].function.parameters", strict=strict)
    g = Function("g", NO_PARAMETERS, "tools[1].function.parameters")
    return ToolPolicy((f, g), **how)


CHOICES = {
    "auto": use(),
    "required": use(forced=True),
    "single": use(forced=True, parallel=False),
    "named": use(forced=True, parallel=False, named="f"),
}


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        (F, {"auto", "required", "single", "named"}),
        (G, {"auto", "required", "single"}),
        (F + "\n" + G, {"auto", "required"}),
        ("", {"auto"}),
        ("Hi <b>, <tool_ and </tool_call>", {"auto"}),
        ("Let me see.\n\n" + F, {"auto"}),
        (BARE_F, {"auto"}),
        (f"\n```json\n{BARE_F}\n```", {"auto"}),
        (f"```\n{BARE_F}\n{BARE_G}\n```\n", {"auto"}),
        (f"I would call {BARE_F}.", {"auto"}),
        ('{"name": "h", "arguments": {}}', {"auto"}),
        ('{"name": "g", "description": "g"}', {"auto"}),
        ("```python\nprint()\n```", {"auto"}),
        (BARE_F[:-1], set()),
        (BARE_F + "\nDone.", set()),
        ('{"name": "f", "arguments": {}}', set()),
        (F + "\nDone.", set()),
        (HERMES.marker, set()),
        ("A <tool_call> is a tag.", set()),
        (hermes_call("h", "{}"), set()),
        (hermes_call("f", "{}"), set()),
        (hermes_call("g", '{"x": 1}'), set()),
        (hermes_call("f", '{"city": "x", "unit": "k"}'), set()),
        (hermes_call("f", '{"city": "x"}')[:-5], set()),
    ],
)
def test_language(allows: Any, text: str, choices: set[str]) -> None:
    """Forced calls are alone, others may follow text; all keep to their schemas."""
    assert {name for name, tools in CHOICES.items() if allows(tools, text)} == choices


def test_one_call_after_text(allows: Any) -> None:
    """Without parallel calls there is at most one, after text too."""
    assert allows(use(parallel=False), "Hm.\n" + F)
    assert not allows(use(parallel=False), F + "\n" + F)
    assert allows(use(parallel=False), BARE_F)
    assert not allows(use(parallel=False), BARE_F + "\n" + BARE_F)


def test_any_object(allows: Any) -> None:
    """A schema that nothing satisfies leaves any object, and does not change another's."""
    call = hermes_call("f", json.dumps({"z": [1, {"y": None}]}))
    assert allows(use(NOTHING), call)
    assert not allows(use(NOTHING), hermes_call("f", "[]"))
    assert not allows(use(NOTHING), hermes_call("g", '{"x": 1}'))
    assert allows(use(NOTHING), G)
    assert not allows(use(), call)
    assert allows(use(), call, loose=True)
    assert not allows(use(strict=True), call, loose=True)


def test_what_is_left_out_is_listed(allows: Any) -> None:
    """The rest of a schema is enforced, and the paths of what is not are known."""
    assert tool_call_grammar(use(BEYOND)).unenforced == (
        "tools[0].function.parameters.properties.a.not",
    )
    assert allows(use(BEYOND), hermes_call("f", '{"a": 1}'))
    assert not allows(use(BEYOND), hermes_call("f", '{"b": 1}'))
    checked = tool_call_grammar(use(NOTHING), checked=True)
    assert checked.unenforced == ("tools[0].function.parameters",)


def test_strict_schemas_are_refused() -> None:
    """A strict schema that cannot be enforced is refused, with its keyword's path."""
    with pytest.raises(InvalidRequestError, match=r"field: 'tools\[0\].function.parameters.*not'"):
        tool_call_grammar(use(BEYOND, strict=True), loose=True)


@pytest.mark.parametrize("how", [{"forced": True}, {"strict": True}])
def test_schemas_of_nothing_are_refused(how: dict[str, Any]) -> None:
    """Where arguments have to match a schema that nothing satisfies, its keyword is named."""
    with pytest.raises(InvalidRequestError) as caught:
        tool_call_grammar(use(NOTHING, **how), checked=True)
    (violation,) = caught.value.violations
    assert violation.field == "tools[0].function.parameters.properties.a.minItems"
    assert violation.description == "JSON Schema not supported: no value satisfies it"


def test_all_violations_are_listed() -> None:
    """What is wrong with each function is said at once."""
    wrong = [
        Function(name, {"type": "object", "uniqueItems": 1, name: 1}, name, strict=True)
        for name in ("f", "g")
    ]
    with pytest.raises(InvalidRequestError) as caught:
        tool_call_grammar(ToolPolicy(tuple(wrong)))
    assert [each.field for each in caught.value.violations] == ["f.f", "g.g"]


def test_type_is_implied(allows: Any) -> None:
    """Parameters are an object, said or not."""
    assert allows(use({}), hermes_call("f", '{"a": 1}'))
    assert not allows(use({}), hermes_call("f", "1"))
    recursive = {"$ref": "#/$defs/N", "$defs": {"N": {"properties": {"n": {"$ref": "#/$defs/N"}}}}}
    assert allows(use(recursive), hermes_call("f", '{"n": {"n": {}}}'))
    assert not allows(use(recursive), hermes_call("f", "1"))


def test_field() -> None:
    """A complaint about one function's grammar names its parameters, else all tools."""
    assert tool_call_grammar(use(named="f")).field == "tools[0].function.parameters"
    assert tool_call_grammar(use()).field == "tools"


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.marker + form.head)
def test_every_format(allows: Any, form: CallFormat) -> None:
    """Calls are held to their schemas in every format, forced and behind text."""
    f, g = ("f", '{"city": "Paris", "unit": "c"}'), ("g", "{}")
    text, wrong = form.write([f]), form.write([("f", "{}")])
    for forced in (True, False):
        tools = use(forced=forced, format=form)
        assert allows(tools, text)
        assert not allows(tools, wrong)
        assert allows(tools, form.write([f, g])) == (form.separator is not None)
        assert not allows(use(forced=forced, parallel=False, format=form), form.write([f, g]))
    marked = text if form.is_marked else form.marker + text
    assert allows(use(format=form), f"Let me see. {marked}")
    assert not allows(use(format=form), f"Let me see. {marked} Done.")
    assert allows(use(format=form), "Just text")
