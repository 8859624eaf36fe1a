"""What is wrong with a regular expression."""

from __future__ import annotations


class PatternError(Exception):
    """The expression cannot be translated."""


class PatternSyntaxError(PatternError):
    """It is no regular expression of ECMA-262."""


class UnsupportedPatternError(PatternError):
    """It has a part that a grammar cannot have, or is too intricate."""


class UnmatchedPatternError(PatternError):
    """No text that the model can write matches."""
