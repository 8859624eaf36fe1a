from __future__ import annotations

import pytest

from rapport.service.request.model_names import is_among, is_named, may_use


@pytest.mark.parametrize("asked", ["m", "accounts/fireworks/models/m", "accounts/me/models/m"])
def test_a_model_is_named_with_or_without_an_account(asked: str) -> None:
    """The id alone and the id within an account mean the model."""
    assert is_named("m", asked)


def test_a_name_may_begin_as_an_account() -> None:
    """A model that is itself named so is found by this name."""
    assert is_named("accounts/me/models/m", "accounts/me/models/m")


@pytest.mark.parametrize(
    "asked",
    ["", "M", "models/m", "accounts//models/m", "accounts/a/b/models/m", "m/accounts/a/models/m"],
)
def test_other_names_are_not_it(asked: str) -> None:
    """Nothing else means the model."""
    assert not is_named("m", asked)


def test_models_of_a_key() -> None:
    """A key without a list is for all models, one with a list for those that are on it."""
    assert is_among(None, "m")
    assert is_among(["a", "m"], "accounts/me/models/m")
    assert not is_among(["a"], "m")
    assert not is_among([], "m")


@pytest.mark.parametrize(
    ("allowed", "asked", "expected"),
    [
        (["m"], "other-name", True),
        (["other-name"], "m", True),
        (["other-name"], "accounts/me/models/m", True),
        (None, "m", True),
        (["a"], "m", False),
        (["a"], "other-name", False),
        (["a"], "a", True),  # which is not served
        (["m"], "a", False),
    ],
)
def test_a_key_for_one_name_is_for_all(
    allowed: list[str] | None, asked: str, expected: bool
) -> None:
    """Who may use the served model by one of its names may by all of them, and no other model."""
    assert may_use(allowed, asked, ["m", "other-name"]) is expected
