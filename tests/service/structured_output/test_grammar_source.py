"""What is known of a grammar before it is compiled."""

from __future__ import annotations

import json

from rapport.service.structured_output.grammar_source import MAX_UNENFORCED_BYTES, first_paths


def test_lists_of_paths_are_bounded() -> None:
    """A list that is too long for a header ends early."""
    assert first_paths([]) == ()
    paths = [f"tools[{i}].ü" for i in range(5000)]
    shown = first_paths(paths)
    assert len(json.dumps(shown)) <= MAX_UNENFORCED_BYTES
    assert shown == (*paths[: len(shown) - 1], "...")
    assert first_paths(shown[:-1]) == shown[:-1]


def test_a_path_that_is_too_long() -> None:
    """Nothing but the ellipsis is shown of it."""
    assert first_paths(["k" * MAX_UNENFORCED_BYTES]) == ("...",)
