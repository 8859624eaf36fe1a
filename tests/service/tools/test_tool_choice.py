from __future__ import annotations

from rapport.service.tools.tool_choice import NO_PARAMETERS, Function, ToolPolicy


def test_definitions() -> None:
    """Models see tools in the shape that requests have."""
    functions = (
        Function("f", {"type": "object"}, "tools[0].function.parameters", "Does f."),
        Function("g", NO_PARAMETERS, "tools[1].function.parameters", strict=True),
    )
    f, g = ToolPolicy(functions).definitions
    assert f == {
        "type": "function",
        "function": {"name": "f", "description": "Does f.", "parameters": {"type": "object"}},
    }
    assert list(g["function"]) == ["name", "parameters"]
