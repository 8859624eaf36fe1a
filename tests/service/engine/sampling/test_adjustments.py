from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapport.service.engine.request import SamplingParams
from rapport.service.engine.sampling.adjustments import LogitAdjustments

SIZE = 6
tokens = st.integers(0, SIZE - 1)
penalties = st.sampled_from([-2.0, 0.0, 0.1, 2.0])


@given(
    st.builds(
        SamplingParams,
        repetition_penalty=st.sampled_from([0.0, 0.5, 1.0, 1.3]),
        frequency_penalty=penalties,
        presence_penalty=penalties,
        logit_bias=st.dictionaries(tokens, st.sampled_from([-100.0, 0.5, 100.0])),
    ),
    st.lists(tokens),
    st.lists(tokens, max_size=40),
)
def test_adjustments_are_what_the_fields_say(
    sampling: SamplingParams, prompt: list[int], drawn: list[int]
) -> None:
    """However often a token has come, and whatever is asked for beside it."""
    adjustments = LogitAdjustments(sampling, prompt, SIZE)
    for token in drawn:
        adjustments.count(token)
    given_logits = np.array([-3, -1, -0.5, 0, 0.5, 3], np.float32)
    logits = given_logits.copy()
    adjustments.apply(logits)
    counts = Counter(drawn)
    for token, before in enumerate(given_logits.tolist()):
        repetition = sampling.repetition_penalty or 1e-6
        seen = token in {*prompt, *drawn}
        moved = before / repetition if before > 0 else before * repetition
        taken = sampling.frequency_penalty * counts[token]
        taken += sampling.presence_penalty * (counts[token] > 0)
        expected = (moved if seen else before) - taken + sampling.logit_bias.get(token, 0)
        assert logits[token] == pytest.approx(expected, rel=1e-5, abs=1e-4)
    assert not adjustments.none or logits.tolist() == given_logits.tolist()
