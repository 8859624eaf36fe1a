from __future__ import annotations

from rapport.common.model_spec import SamplingDefaults
from rapport.models.decoder.sampling import sampling_defaults


def test_values_that_a_request_may_have() -> None:
    """They are taken as they are; what is not said stays unsaid."""
    advised = {"temperature": 0.7, "top_p": 1, "top_k": 20, "repetition_penalty": 1.05}
    assert sampling_defaults(advised).given == advised
    assert sampling_defaults({}) == SamplingDefaults()


def test_other_values_are_left_out() -> None:
    """A value that no request may have is as if it were not there, as are other settings."""
    wrong = {
        "temperature": 3.0,
        "top_p": "0.5",
        "top_k": 1000,
        "min_p": float("nan"),
        "repetition_penalty": None,
        "do_sample": True,
    }
    assert sampling_defaults(wrong).given == {}
    assert sampling_defaults(wrong | {"min_p": 0.1}).given == {"min_p": 0.1}
