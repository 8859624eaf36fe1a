"""The command line of `python -m bench.versus`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.options import bounded, listed
from bench.versus.catalog import WORKLOADS
from bench.versus.rounds import RAPPORT

PEER = "llama-server"
SERVERS = (RAPPORT, PEER)
ROUNDS = 9
DESCRIPTION = (
    "Runs Rapport and llama-server side by side on this machine and compares them. RAPPORT_* "
    "variables apply to Rapport. Publish only what was measured while nothing else used the cores."
)


@dataclass(frozen=True, slots=True)
class Options:
    """What to compare, how often, and where the figures go."""

    rounds: int
    pilot_rounds: int
    only: list[str]
    servers: list[str]
    llama_server: str | None
    gguf: Path | None
    all_variants: bool
    out: Path
    readme: Path | None
    no_plots: bool


def parse(arguments: Sequence[str]) -> Options:
    """Reads the command line.

    Raises:
        SystemExit: it is wrong, or help was asked for.
    """
    parser = argparse.ArgumentParser("bench.versus", description=DESCRIPTION, allow_abbrev=False)
    names = [workload.name for workload in WORKLOADS]
    add = parser.add_argument
    add("--rounds", type=bounded(int, 1, 1000), default=ROUNDS, help="(%(default)s)")
    add("--pilot-rounds", type=bounded(int, 1, 1000), default=2, help="(%(default)s)")
    add("--only", type=listed(_one_of(names)), default=names, help=f"of {', '.join(names)}")
    add("--servers", type=listed(_one_of(SERVERS)), default=list(SERVERS), help="(both)")
    add("--llama-server", metavar="PATH", help="the program, else LLAMA_SERVER's or make's own")
    add("--gguf", type=Path, help="the model's file, imported by its name (the default model's)")
    add("--all-variants", action="store_true", help="no pilot: all of the peer in all rounds")
    add("--out", type=Path, default=Path("bench/results"), help="folder (%(default)s)")
    add("--readme", type=Path, help="a file whose marked part becomes the table and the plot")
    add("--no-plots", action="store_true", help="figures only; needs no matplotlib")
    return Options(**vars(parser.parse_args(arguments)))


def _one_of(names: Sequence[str]) -> Callable[[str], str]:
    def name(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"{text} is none of {', '.join(names)}")
        return text

    return name
