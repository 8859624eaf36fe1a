"""Filters come out as jinja2 has them; what they cost is tested with the sandbox."""

from __future__ import annotations

import pytest

from rapport.service.prompt.template import ChatTemplate
from rapport.service.prompt.turns import Conversation, Turn

HI = Conversation([Turn("user", "Hi")])


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ [1, 'a'] | join(', ') }}", "1, a"),
        ("{{ messages | join('-', attribute='content') }}", "Hi"),
        ("{{ ', '.join(['a', 'b']) }}", "a, b"),
        ("{{ 'aXbX' | replace('X', '-') }}{{ 'aXbX'.replace('X', '-', 1) }}", "a-b-a-bX"),
        ("{{ 'a\nb' | indent(2) }}{{ 'a' | indent('>', true) }}", "a\n  b>a"),
        ("{{ {'a': [1]} | tojson(indent=2) }}", '{\n  "a": [\n    1\n  ]\n}'),
        ("{{ {'b': 1, 'a': 'é'} | tojson(sort_keys=true) }}", '{"a": "é", "b": 1}'),
        ("{{ {'a': ['é']} | tojson(ensure_ascii=true) }}", '{"a": ["\\u00e9"]}'),
        ("{{ {'a': [1, 2]} | tojson(separators=(',', ':')) }}", '{"a":[1,2]}'),
        ("{{ [1] | tojson(indent='-') }}", "[\n-1\n]"),
        ("{{ x | default('y') }}{{ '' | d('z', true) }}{{ 1 | d(2) }}", "yz1"),
    ],
)
def test_filters(source: str, text: str) -> None:
    """A filter or method that pays for its result beforehand has the usual one."""
    assert ChatTemplate(source).render(HI) == text
