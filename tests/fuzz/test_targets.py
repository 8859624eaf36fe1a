"""What is fuzzed holds for the seeds and for random bytes, far fewer than `make fuzz` tries."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

EXAMPLES = 60
FEW = {"http": 30}  # each makes a channel


@pytest.mark.parametrize(
    ("name", "seed"),
    [(name, seed) for name, all_ in seeds().items() for seed in all_],
    ids=lambda _: "",
)
def test_seeds(name: str, seed: bytes) -> None:
    """Whole inputs, and those that once were findings, make no trouble."""
    TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
def test_random_bytes(name: str) -> None:
    """Seeds that were cut and changed at random make none either."""

    @settings(
        max_examples=FEW.get(name, EXAMPLES),
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(mangled(seeds()[name]))
    def holds(data: bytes) -> None:
        TARGETS[name](data)

    holds()


@st.composite
def mangled(draw: st.DrawFn, whole: list[bytes]) -> bytes:
    """A seed of which up to three stretches are something else."""
    data = draw(st.sampled_from(whole))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 64)))
        data = data[:start] + draw(st.binary(max_size=16)) + data[end:]
    return data
