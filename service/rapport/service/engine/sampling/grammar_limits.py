"""What the grammar engine may do for a grammar, and for each token under it."""

from __future__ import annotations

from llguidance import LLParserLimits

from rapport.service.engine.errors import ConstraintFailedError

# With these a mask of the most ambiguous grammars that we know takes 0.15 s of CPU time, a token
# that is accepted 0.03 s, and a choice below some 50 MB. The work in a row grows with the cube of
# its items. Of 4,752 schemas of JSONSchemaBench one needs more than 1,000 in a row, and masks take
# 0.03 ms in the median and 25 ms at most; a right-recursive list needs one for each element.
PARSER_LIMITS = LLParserLimits(
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=200_000,
    max_items_in_row=1_000,
    step_max_items=10_000,
    max_lexer_states=25_000,
    max_grammar_size=500_000,
    verbose_errors=False,
)
# What the grammar of a request may take: at once, and for each token in the long run.
MAX_BUDGET_S = 1.0
BUDGET_PER_TOKEN_S = 0.01


class GrammarBudget:
    """The time that the grammar of one request may take, over all its choices.

    Tokens add to it as they come, up to `MAX_BUDGET_S`.
    """

    def __init__(self) -> None:
        self._left_s = MAX_BUDGET_S

    def charge(self, seconds: float) -> None:
        """Takes off what a token took.

        Raises:
            ConstraintFailedError: nothing is left.
        """
        self._left_s = min(self._left_s + BUDGET_PER_TOKEN_S, MAX_BUDGET_S) - seconds
        if self._left_s < 0:
            raise ConstraintFailedError("it takes too much time")
