"""Compares Rapport with llama-server, and writes the results."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import onnxruntime

from bench.errors import BenchError
from bench.server import Target, rapport
from bench.versus import peers
from bench.versus.catalog import CAPACITY, OPEN_MIX, WORKLOADS
from bench.versus.figures import Workload
from bench.versus.measuring import Contender
from bench.versus.options import PEER, Options, parse
from bench.versus.plots import RATIOS, plot
from bench.versus.results import Results, portable, refresh, rows_of, table
from bench.versus.rounds import RAPPORT, Comparison, Match
from rapport.models.cache.catalog import DEFAULT_MODEL
from rapport.models.gguf.shards import model_name
from rapport.models.importer import id_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the comparison. Returns 0 if no run failed."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    # As in `bench`: SIGTERM is treated as Ctrl-C, so that either ends the servers.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        results = compare(options)
        publish(options, results)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    print(table(results.rows))
    return 1 if any(run.error for run in results.runs) else 0


@dataclass(frozen=True, slots=True)
class Peer:
    """llama-server and its files."""

    program: Path
    files: dict[str, Path]

    def contenders(self, workload: Workload) -> list[Contender]:
        """A contender for each setup of the workload and each file."""
        return [
            Contender(
                PEER,
                f"{kind}, {setup.name}",
                peers.command(self.program, file, setup),
                partial(peers.llama_server, self.program, file, setup),
            )
            for setup in workload.setups
            for kind, file in self.files.items()
        ]


def compare(options: Options) -> Results:
    """Measures everything that the options ask for, and writes results after each round."""
    peer = found_peer(options)
    results = Results(versions_with(peer))
    workloads = [workload for workload in WORKLOADS if workload.name in options.only]
    matches = [Match(workload, contenders(workload, options, peer)) for workload in workloads]
    comparison = Comparison(results.runs, options.pilot_rounds)
    if peer and OPEN_MIX in options.only:
        results.capacity = comparison.measure_capacity(peer.contenders(CAPACITY))
    if not options.all_variants:
        for match in matches:
            comparison.choose(match)
    every = [one for match in matches for one in match.contenders]
    results.commands = {one.variant: portable(one.command) for one in every}

    def write() -> None:
        results.rows = [row for each in workloads for row in rows_of(each, results.runs)]
        results.write(options.out)

    comparison.play(matches, options.rounds, write)
    return results


def contenders(workload: Workload, options: Options, peer: Peer | None) -> list[Contender]:
    """Rapport with default settings, and the peer with every setup."""
    model = model_of(options)
    command = ["rapport", "serve", "--model", model]
    own = [Contender(RAPPORT, "as it comes", command, partial(started_rapport, model), model)]
    others = peer.contenders(workload) if peer else []
    return (own if RAPPORT in options.servers else []) + others


def model_of(options: Options) -> str:
    """The id by which Rapport serves the model."""
    return id_of(options.gguf, model_name(options.gguf)) if options.gguf else DEFAULT_MODEL


@contextmanager
def started_rapport(model: str) -> Iterator[Target]:
    with rapport(model=model) as (_, target):
        yield target


def found_peer(options: Options) -> Peer | None:
    if PEER not in options.servers:
        return None
    program = peers.find_llama_server(options.llama_server)
    if options.gguf:
        return Peer(program, {options.gguf.stem: options.gguf})
    return Peer(program, peers.model_files(program))


def versions_with(peer: Peer | None) -> dict[str, str]:
    """The versions of both servers and of ONNX Runtime."""
    found = {"rapport": version("rapport-server"), "onnxruntime": onnxruntime.__version__}
    return found | ({PEER: peers.llama_version(peer.program)} if peer else {})


def publish(options: Options, results: Results) -> None:
    """Draws the plots, and updates table and plot in a README, as the options say."""
    if not options.no_plots:
        plot(results.rows, results.runs, options.out)
    if options.readme:
        picture = options.out / RATIOS
        link = os.path.relpath(picture, options.readme.parent)
        refresh(options.readme, f"{table(results.rows)}\n\n![Ratios to llama-server]({link})")


if __name__ == "__main__":
    sys.exit(main())
