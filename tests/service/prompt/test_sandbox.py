"""Templates come with models. Whatever they try, they end soon and stay small."""

from __future__ import annotations

import tracemalloc

import pytest

from rapport.service.errors import InvalidRequestError
from rapport.service.prompt import render_budget
from rapport.service.prompt.sandbox import MAX_SOURCE_CHARS
from rapport.service.prompt.template import ChatTemplate
from rapport.service.prompt.turns import Conversation, Turn

HI = Conversation([Turn("user", "Hi")])
# Which of the two comes first is a matter of speed.
MUCH = LONG = "makes more than it may|takes over"
LARGE = "numbers are too large"
UNSAFE = "is unsafe"


def doubling(expression: str, then: str = "") -> str:
    """A template that has a value grow sixty times."""
    start = "{% set ns = namespace(x='ab') %}{% for i in range(60) %}"
    return f"{start}{{% set ns.x = {expression} %}}{{% endfor %}}{then}"


def with_long(use: str) -> str:
    return f"{{% set a = 'a' * 100000 %}}{use}"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # Texts, lists and numbers that grow.
        ("{{ 'a' * 10**9 }}", MUCH),
        ("{{ 10**9 * ['a'] }}", MUCH),
        (doubling("ns.x ~ ns.x"), MUCH),
        (doubling("ns.x + ns.x"), MUCH),
        (doubling("[ns.x, ns.x]", "{{ ns.x }}"), MUCH),
        (doubling("(ns.x, ns.x)", "{{ ns.x == 1 }}"), MUCH),
        (doubling("{'a': ns.x, 'b': ns.x}", "{{ ns.x | tojson }}"), MUCH),
        (doubling("dict(a=ns.x, b=ns.x)", "{{ ns.x | string }}"), MUCH),
        (doubling("([0] * 40) | map('default', ns.x, true) | list"), MUCH),
        (doubling("(ns.x | int(2)) * (ns.x | int(2))"), LARGE),
        ("{{ 2 ** 100000000 }}", LARGE),
        (with_long("{{ a | replace('a', a) }}"), MUCH),
        (with_long("{{ a.replace('', a) }}"), MUCH),
        (with_long("{{ ([1] * 10000) | join(a) }}"), MUCH),
        (with_long("{{ a.join([''] * 10000) }}"), MUCH),
        (with_long("{{ ([a, a, a]) | join }}"), MUCH),
        (with_long("{% set b = a[1:] %}" * 5), MUCH),
        (with_long("{% set b = a.upper() %}" * 5), MUCH),
        (with_long("{% set b %}{{ a }}{% endset %}" * 5), MUCH),
        ("{{ 'a\nb' | indent(10**9) }}", MUCH),
        ("{{ [1] | tojson(indent=10**9) }}", "indents too far"),
        ("{{ [1] | tojson(indent=' ' * 17) }}", "indents too far"),
        ("{{ range(9999) | list | tojson(separators=(',' * 9999, ':')) }}", MUCH),
        # Formatting.
        ("{{ '%999999999d' % 1 }}", "formats text with '%'"),
        ("{{ '{:>999999999}'.format(1) }}", UNSAFE),
        ("{{ 'a'.center(10**9) }}", UNSAFE),
        ("{{ 'a'.zfill(10**9) }}", UNSAFE),
        ("{{ strftime_now('%Y' * 1000) }}", "pattern of a date is too long"),
        # Steps without an end.
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", LONG),
        (
            (
                "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}"
                "{{ f(60) }}"
            ),
            LONG,
        ),
        (
            (
                "{% for x in [1, 2] recursive %}{% if loop.depth < 60 %}{{ loop([1, 2]) }}"
                "{% endif %}{% endfor %}"
            ),
            LONG,
        ),
        (
            (
                "{% set ns = namespace(i=0) %}{% block a %}{% set ns.i = ns.i + 1 %}"
                "{{ self.a() }}{{ self.a() }}{% endblock %}"
            ),
            "recursion",
        ),
        ("{% set x %}{% for i in range(99999) %}" + "x" * 100 + "{% endfor %}{% endset %}", MUCH),
        # Mistakes.
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ 'a' + 1 }}", "concatenate"),
        ("{{ none.x.y }}", "has no attribute"),
        ("{{ namespace(x=1) }}", "Namespace cannot be written"),
        ("{{ '\\ud800' }}", "surrogates not allowed"),
        ("{% include 'x' %}", "no loader"),
        ("{{ ''.__class__.mro() }}", UNSAFE),
        # What the sandbox itself works with gives nothing away.
        ("{{ [-10**9] | map('_step') | list }}" + with_long("{% set b = a[1:] %}" * 5), MUCH),
    ],
)
def test_hostile_templates(monkeypatch: pytest.MonkeyPatch, source: str, expected: str) -> None:
    """A template that wants too much ends in an error that says so, in bounded memory."""
    monkeypatch.setattr(render_budget, "MAX_CPU_S", 0.1)
    monkeypatch.setattr(render_budget, "BASE_SIZE", 400_000)
    template = ChatTemplate(source)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequestError, match=expected):
            template.render(HI)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x" * (MAX_SOURCE_CHARS + 1), "over 1048576 characters"),
        ("{{ " + "(" * 100_000, "recursion"),
        ("{{ 1" + "+1" * 10_000 + " }}", "recursion"),
        ("{% for i in [1] %}" * 30 + "{% endfor %}" * 30, "nested blocks"),
        ("{{ " + "9" * 5000 + " }}", "4300 digits"),
        ("{{ 'a' | center(10**9) }}", "No filter named 'center'"),
        ("{% macro m() %}{{ varargs }}{% endmacro %}", "no varargs"),
        ("{% if %}", "Expected an expression"),
        ("{% break %}", "outside loop"),
    ],
)
def test_what_is_no_template(source: str, expected: str) -> None:
    """What cannot be read is refused as the model is loaded, in one line."""
    with pytest.raises(ValueError, match=expected) as raised:
        ChatTemplate(source)
    assert "\n" not in str(raised.value)


def test_a_long_conversation_may_be_rendered() -> None:
    """The more is said, the more a template may make of it."""
    template = ChatTemplate("{% for m in messages %}{{ ('' ~ m.content) + '' }}{% endfor %}")
    text = "x" * render_budget.BASE_SIZE
    assert template.render(Conversation([Turn("user", text)])) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ 'a' ~ 1 ~ none ~ [2] }}", "a1None[2]"),
        ("{{ 'ab' * 2 }}{{ [1] * 2 }}{{ 2 * 3 }}{{ 2 ** 3 }}{{ 7 % 4 }}", "abab[1, 1]683"),
        ("{{ (messages + [1])[1:] }}{{ 'abc'[::-1] }}", "[1]cba"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"),
        ("{% set a, b = 1, 2 %}{{ a }}{{ b }}{{ (1, 2) }}", "12(1, 2)"),
        ("{{ messages | selectattr('role', 'eq', 'user') | list | length }}", "1"),
        ("{{ messages | map(attribute='role') | map('upper') | join }}", "USER"),
        ("{% for m in messages %}{{ loop.index0 }}{{ loop.last }}{% endfor %}", "0True"),
        ("{% macro f(x, y=2) %}{{ x }}{{ y }}{% endmacro %}{{ f(1) }}", "12"),
        ("{% for x in [] %}{% else %}none{% endfor %}{% block b %}c{% endblock %}", "nonec"),
        ("{{ dict(a=1).get('a') }}{{ namespace(b=2).b }}{{ range(3) | list }}", "12[0, 1, 2]"),
        ("{{ ' a '.strip() ~ 'b-c'.split('-')[0] ~ 'x'.startswith('x') }}", "abTrue"),
    ],
)
def test_what_templates_do(source: str, text: str) -> None:
    """What templates do to write a prompt comes out as jinja2 has it."""
    assert ChatTemplate(source).render(HI) == text
