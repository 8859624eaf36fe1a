from __future__ import annotations

import re
import time
from contextlib import suppress

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from rapport.service.engine.errors import ConstraintFailedError
from rapport.service.engine.sampling.constraint import Grammar
from rapport.service.engine.sampling.grammar_compiler import GrammarCompiler, GrammarError
from rapport.service.engine.text.vocabulary import Vocabulary
from rapport.service.structured_output.alphabet import Alphabet
from rapport.service.structured_output.gbnf import gbnf_to_lark
from rapport.service.structured_output.gbnf_parser import GbnfError
from tests.service.structured_output.sampling import accepts, sample

# From llama.cpp's grammars folder.
ARITHMETIC = r"""
root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*
"""
LIST = r"""
root ::= item+

# Excludes various line break characters
item ::= "- " [^\r\n\x0b\x0c\x85\u2028\u2029]+ "\n"
"""
JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws

string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws

number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws

# Optional space: by convention, applied in this grammar after literal chars when allowed
ws ::= | " " | "\n" [ \t]{0,20}
"""

# The same expression in GBNF and as Python has it.
atoms = st.sampled_from(
    [('"a"', "a"), ('"ab"', "ab"), ("[ab]", "[ab]"), ("[^a]", "[^a]"), ("x", "b")]
)


def widened(inner: st.SearchStrategy[tuple[str, str]]) -> st.SearchStrategy[tuple[str, str]]:
    pairs = st.tuples(inner, inner)
    return st.one_of(
        pairs.map(lambda p: (f"{p[0][0]} {p[1][0]}", p[0][1] + p[1][1])),
        pairs.map(lambda p: (f"({p[0][0]} | {p[1][0]})", f"(?:{p[0][1]}|{p[1][1]})")),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{2,}", "{0000002}"])).map(
            lambda p: (f"({p[0][0]}){p[1]}", f"(?:{p[0][1]}){p[1].replace('000000', '')}")
        ),
    )


expressions = st.recursive(atoms, widened, max_leaves=5)


def grammar(compiler: GrammarCompiler, text: str) -> Grammar:
    return compiler.compile(gbnf_to_lark(text))


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        (ARITHMETIC, ["a=1\n", "(x +2) *y_1 = 7\n\n"], ["a=1", "=1\n", "1a=2\n"]),
        (LIST, ["- one\n", "- one\n- zwölf\n"], ["- \n", "one\n", "- one"]),
        (JSON, ['{"a": [1, -2.5e3, "x\\n", {}]}', "{}"], ["[1]", '{"a"}', '{"a": 01}']),
    ],
)
def test_examples_of_llama_cpp(
    compiler: GrammarCompiler, vocabulary: Vocabulary, text: str, good: list[str], bad: list[str]
) -> None:
    """Grammars that come with llama.cpp take what they describe and nothing else."""
    compiled = grammar(compiler, text)
    for said in good:
        assert accepts(compiled, vocabulary.encode_text(said)), said
    for said in bad:
        assert not accepts(compiled, vocabulary.encode_text(said)), said


@settings(max_examples=150)
@given(expressions, st.text("ab", max_size=6), st.booleans())
def test_every_reading_counts(
    compiler: GrammarCompiler,
    vocabulary: Vocabulary,
    expression: tuple[str, str],
    text: str,
    recursive: bool,
) -> None:
    """A text is taken exactly if it can be read some way, however it is cut into pieces."""
    written, regex = expression
    more = ' | "(" root ")"' if recursive else ""
    expected = re.fullmatch(f"(?:{regex})b", text) is not None
    try:
        compiled = grammar(compiler, f'root ::= ({written}) "b"{more}\nx ::= "b"')
        accepted = accepts(compiled, vocabulary.encode_text(text))
    except (GrammarError, ConstraintFailedError) as failure:
        if "it is too large" not in str(failure):
            raise
        reject()  # more readings than the parser may hold: refused, not misread
    assert accepted == expected


@pytest.mark.parametrize("seed", range(5))
def test_sampling_stays_inside(
    compiler: GrammarCompiler, vocabulary: Vocabulary, seed: int
) -> None:
    """What is drawn under a grammar is one of its texts."""
    text = sample(
        grammar(compiler, 'root ::= "(" root ")" | [0-9]{1,3}'), vocabulary.token_bytes, seed
    )
    assert text.strip("()").isdecimal()
    assert text.count("(") == text.count(")")


def test_escapes_and_any_character(compiler: GrammarCompiler, vocabulary: Vocabulary) -> None:
    """Escapes mean their characters in texts and classes, and a dot means any."""
    compiled = grammar(compiler, r'root ::= "\x41\u00e9\U0001F600\"\\" [\]\-\t^] . # the end')
    assert accepts(compiled, vocabulary.encode_text('Aé😀"\\-\n'))
    assert accepts(compiled, vocabulary.encode_text('Aé😀"\\^x'))
    assert not accepts(compiled, vocabulary.encode_text('Aé😀"\\ax'))


def test_characters_that_cannot_be_written(
    compiler: GrammarCompiler, vocabulary: Vocabulary
) -> None:
    """Classes have only what can be written; what else a grammar needs is refused."""
    writable = Alphabet.of_bytes(compiler.single_bytes).text_characters
    compiled = compiler.compile(gbnf_to_lark(r"root ::= [\x01-\x07]{9}", writable))
    for seed in range(3):
        assert len(sample(compiled, vocabulary.token_bytes, seed)) == 9
    for text in (r'root ::= "a\x04" | "b"', r'root ::= "a" [\x04] root | "b"'):
        with pytest.raises(GbnfError, match=r"U\+0004 is nothing that the model can write"):
            gbnf_to_lark(text, writable)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the rule 'root' is missing"),
        ('rot ::= "a"', "the rule 'root' is missing"),
        ("root ::= other", "the rule 'other' is missing"),
        ('root = "a"', "line 1, column 6: expected '::='"),
        ('root ::= "a', "line 1, column 12: expected a character"),
        ('root ::= ("a"', "expected ')'"),
        ("root ::= [z-a]", "expected a range from low to high"),
        (r'root ::= "\q"', "expected an escape"),
        (r'root ::= "\uD800"', "expected a character's number"),
        ('root ::= "a"{3,2}', "expected a count from low to high"),
        ('root ::= "a"{1000000000000}', "repetitions should be at most"),
        ('root ::= "a" )', "expected a new line"),
        ("root ::= <[7]>", "expected a new line"),
        ('root ::= "a"?*', "expected a new line"),
        ("root ::= " + '"a"? ' * 6000, "at most 10000 parts"),
        (f'root ::= "{"a" * 10_000}" | "(" root ")"', "at most 10000 parts"),
        ("root ::= " + "(" * 60, "nested at most"),
        (
            "\n".join(f"r{i} ::= r{i + 1}" for i in range(3000)) + "\nroot ::= r0\nr3000 ::= ",
            "nested",
        ),
    ],
)
def test_mistakes_are_told(text: str, reason: str) -> None:
    """What is wrong with a grammar is said, with the place where there is one."""
    with pytest.raises(GbnfError, match=re.escape(reason)):
        gbnf_to_lark(text)


@pytest.mark.parametrize(
    "text",
    [
        'root ::= "a" root',
        "root ::= root",
        'root ::= root root | "a" | ""',
        'root ::= (("a"?)*)*',
        'root ::= ((("a" | "b" "c"){1,1000}){1,1000}){1,1000} "d" | "(" root ")"',
        'root ::= a a a a\na ::= a a | "a" | "aa" | b\nb ::= a b | "a"',
        "root ::= " + " | ".join(f'"word {i}"' for i in range(10_000)),
        "root ::= [^\\x00-\\U0010FFFF]",
        "root ::= " + '"a"? ' * 4000 + '| "(" root ")"',
        "root ::= r0\n"
        + "".join(f"r{i} ::= r{i + 1} r{i + 1}\n" for i in range(300))
        + 'r300 ::= "y"',
    ],
)
def test_hostile_grammars_are_bounded(compiler: GrammarCompiler, text: str) -> None:
    """A grammar made to hurt is refused or compiled in seconds, on a busy machine too."""
    began = time.process_time()
    with suppress(GbnfError, GrammarError):
        grammar(compiler, text)
    assert time.process_time() - began < 2
