from __future__ import annotations

import json
import time

import pytest
import regress
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler, GrammarError
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.errors import InvalidRequestError
from rapport.service.structured_output.alphabet import EVERY_BYTE, Alphabet
from rapport.service.structured_output.ecma_regex.errors import (
    PatternError,
    PatternSyntaxError,
    UnmatchedPatternError,
    UnsupportedPatternError,
)
from rapport.service.structured_output.ecma_regex.translation import translate_pattern
from rapport.service.structured_output.json_schema.grammar import schema_grammar
from tests.service.structured_output.ecma_regex.patterns import letters, patterns
from tests.service.structured_output.sampling import EndlessError, accepts, sample

FIELD = "response_format.schema"


@pytest.fixture(scope="module")
def alphabet(compiler: GrammarCompiler) -> Alphabet:
    return Alphabet.of_bytes(compiler.single_bytes)


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(patterns, st.integers(0, 2**32))
def test_output_matches(
    compiler: GrammarCompiler, vocabulary: Vocabulary, alphabet: Alphabet, pattern: str, seed: int
) -> None:
    """Whatever is drawn under a pattern ends, and matches by another engine."""
    try:
        source = schema_grammar({"type": "string", "pattern": pattern}, FIELD, alphabet)
        grammar = compiler.compile(source.text)
        text = json.loads(sample(grammar, vocabulary.token_bytes, seed, most_tokens=60))
    except (InvalidRequestError, GrammarError, EndlessError):
        assume(False)
    assert not source.unenforced
    assert regress.Regex(pattern, "u").find(text) is not None


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(st.text(letters, max_size=6), st.text(letters, max_size=6), st.integers(0, 2**32))
def test_texts_are_exact(  # noqa: PLR0917 - what is drawn, and fixtures
    compiler: GrammarCompiler,
    vocabulary: Vocabulary,
    alphabet: Alphabet,
    key: str,
    constant: str,
    seed: int,
) -> None:
    """Constants and keys come as they are, of whatever characters, or are refused."""
    schema = {"type": "object", "properties": {key: {"const": constant}}, "required": [key]}
    try:
        source = schema_grammar(schema, FIELD, alphabet)
    except InvalidRequestError:
        assert alphabet.missing(key + constant)
        return
    grammar = compiler.compile(source.text)
    assert json.loads(sample(grammar, vocabulary.token_bytes, seed)) == {key: constant}


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        (r"^[^\\]+$", ["a/b", "\n"], ["a\\b", ""]),
        (r'^[^"]+$', ["a\\b"], ['a"b']),
        (r"^[^\\/:*?\"<>|\x00-\x1f]+$", ["a.txt"], ["a\\b", "a\nb", 'a"']),
        ("[a&&b]", ["&", "xa"], ["x"]),
        ("^[[:alpha:]]$", ["a]", ":]"], ["a", "x]"]),
        ("^[a[b]]$", ["a]", "[]"], ["a"]),
        ("^.$", ["a", "\t", "\x85"], ["\n", "\r", "\u2028"]),
        (r"^\s$", ["\ufeff", "\u2028", "\u00a0"], ["\x85", "a"]),
        (r"^\d\w$", ["1_"], ["\u0661a", "1é"]),
        ("a|^b", ["xa", "bx"], ["xb"]),
        ("(^|x)y($|z)", ["y", "axy", "yzb"], ["ay", "ya"]),
        ("^$", [""], ["a"]),
        (r"^\u{1F600}[\ud83d\ude00]$", ["\U0001f600" * 2], ["\U0001f600"]),
        ("^a{,2}$", ["a{,2}"], ["a", "aa"]),
        ("^(?<name>a){2}b*?$", ["aa", "aabb"], ["a", "aaa"]),
        ("^(?<a>x)|(?<a>y)(?<$b>z)$", ["x", "yz"], ["y"]),
        (r"^\@\-\_]{}$", ["@-_]{}"], ["@"]),
        ("^(?:a|[])$", ["a"], [""]),
        ("^[^]$", ["]", "\n"], [""]),
    ],
)
def test_meaning(
    compiler: GrammarCompiler,
    vocabulary: Vocabulary,
    pattern: str,
    matching: list[str],
    others: list[str],
) -> None:
    """Patterns mean what they mean in ECMA-262."""
    grammar = compiler.compile(schema_grammar({"type": "string", "pattern": pattern}, FIELD).text)

    def takes(text: str) -> bool:
        return accepts(grammar, vocabulary.encode_text(json.dumps(text, ensure_ascii=False)))

    assert [text for text in [*matching, *others] if takes(text)] == matching


@pytest.mark.parametrize(
    ("pattern", "error"),
    [
        *(
            (text, PatternSyntaxError)
            for text in ["(", ")", "[", "*", "a**", "a{2,1}", "^*", "[b-a]"]
        ),
        *((text, PatternSyntaxError) for text in [r"\A", r"\z", "\\", "(?x)a", "(?P<n>a)", "a++"]),
        *((text, PatternSyntaxError) for text in ["(?<a>)(?<a>)", "(?<a>|(?<a>b))", "(?<1>)"]),
        *((text, PatternSyntaxError) for text in [r"\u{110000}", r"\pL", r"\x1", "[b-a]"]),
        *((text, UnsupportedPatternError) for text in ["(?=a)", "(?<!a)b", r"(a)\1", r"\bword"]),
        *((text, UnsupportedPatternError) for text in ["a^", "($a)*", "(" * 200, "a{9999999999}"]),
        *(
            (text, UnmatchedPatternError)
            for text in ["[]", r"^\x01$", r"[\ud800-\udfff]", r"a[^\s\S]"]
        ),
    ],
)
def test_refusals(pattern: str, error: type[PatternError]) -> None:
    """What is no pattern, what cannot be enforced and what cannot be written are told apart."""
    with pytest.raises(error):
        translate_pattern(pattern, EVERY_BYTE.characters)


def test_large_classes() -> None:
    """A class of thousands of characters takes a fraction of a second, not minutes."""
    began = time.thread_time()
    translate_pattern(f"[{''.join(map(chr, range(0x4E00, 0x9E00, 2)))}]", EVERY_BYTE.characters)
    assert time.thread_time() - began < 10
