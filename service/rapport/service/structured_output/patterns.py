"""Regular expressions as the grammar engine takes them."""

from __future__ import annotations

from llguidance import LLMatcher

from rapport.service.structured_output.numbers import Unsupported


def check_pattern(pattern: str) -> None:
    """Lets a regular expression pass that the engine knows.

    Raises:
        Unsupported: it has mistakes, or looks around.
    """
    try:
        pattern.encode()
    except UnicodeEncodeError:
        raise Unsupported("strings should be valid Unicode") from None
    message = LLMatcher.validate_grammar(LLMatcher.grammar_from_regex(pattern))
    if message:
        reason = message.rpartition("error: ")[2].partition("\n")[0]
        raise Unsupported(f"the pattern {pattern!r} cannot be enforced: {reason}")
