"""All attacks at once for ten minutes, beside a well-behaved caller."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

import pytest

from tests.hostile.mix import mixed
from tests.hostile.random_attacks import Scene
from tests.hostile.serving import serving

DURATION_S = 600
ATTACKERS = ("greedy", "second", "limited")
# Chats of each protocol before the attack.
ALONE_SAMPLES = 50
MAX_GROWTH_BYTES = 1 << 30


@pytest.mark.scale
@pytest.mark.timeout(DURATION_S + 600)
def test_hostile_mix(cpu_folder: Path, tmp_path: Path) -> None:
    """Whatever attackers do together, a caller with a key of its own is served."""
    mix(cpu_folder, tmp_path, seed=secrets.randbelow(1 << 30), seconds=DURATION_S)


def mix(model_folder: Path, keys_folder: Path, *, seed: int, seconds: float) -> None:
    sys.stdout.write(f"\nseed {seed}\n")
    with serving(model_folder, keys_folder) as attacked:
        target = attacked.target
        metrics = str(target.service_metrics), str(target.gateway_metrics)
        keys = tuple(attacked.keys[name] for name in ATTACKERS)
        scene = Scene(attacked.rest, attacked.grpc, metrics, keys)
        with (
            attacked.beside(
                max_growth_bytes=MAX_GROWTH_BYTES, alone_samples=ALONE_SAMPLES, strict=True
            ),
            mixed(scene, seed, seconds) as outcome,
        ):
            ended = outcome()
            sys.stdout.write(f"attacks: {dict(ended.runs)}\n")
    assert not ended.errors, ended.errors
