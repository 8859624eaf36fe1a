"""A strategy for regular expressions of ECMA-262 over all of Unicode."""

from __future__ import annotations

from hypothesis import strategies as st

SYNTAX = "^$\\.*+?()[]{}|/"
letters = st.sampled_from('ab0_ é\u2028\n\t\x07\x7f"\\\U0001f600\U00040000') | st.characters(
    exclude_categories=["Cs"]
)


def escaped(character: str) -> str:
    return f"\\{character}" if character in SYNTAX else character


literals = letters.map(escaped)
escapes = st.sampled_from(
    [
        *(rf"\{letter}" for letter in "dDwWsStnrfv0"),
        *(r"\x41", r"\u0022", r"\u{1F600}", r"\ud83d\ude00"),
    ]
)
class_parts = st.sampled_from(["a-z", r"\x00-\x1f", r"\[-\]", r"\-", "&&", r"\p{L}", "^"])
class_items = literals | escapes | class_parts
classes = st.tuples(st.sampled_from(["", "^"]), st.lists(class_items, max_size=4)).map(
    lambda parts: f"[{parts[0]}{''.join(parts[1])}]"
)
atoms = st.one_of(literals, escapes, classes, st.just("."), st.sampled_from([r"\p{Lu}", r"\P{L}"]))
quantifiers = st.sampled_from(["", "", "*", "+?", "?", "{2}", "{1,3}", "{0,2}?", "{2,}"])
parts = st.recursive(
    atoms,
    lambda inner: st.tuples(
        st.sampled_from(["(", "(?:"]), st.lists(inner, max_size=3), quantifiers
    ).map(lambda group: f"{group[0]}{'|'.join(group[1])}){group[2]}"),
    max_leaves=5,
)
quantified = st.tuples(parts, quantifiers).map("".join)
bodies = st.lists(quantified, max_size=4).map("".join)
patterns = st.one_of(
    bodies.map("^{}$".format),
    st.tuples(bodies, bodies).map(lambda both: f"(^|a){both[0]}|{both[1]}$"),
    bodies,
)
