"""Tokens and greedy answers beside llama-server's: `python -m bench.agreement FILE.gguf`.

Both serve the same file, which Rapport has imported by its name. Prints which of 2,000 lines of
prose, code and random Unicode have other tokens and, for each of ten prompts, where the answers
part and by how much each server preferred its own token there, in nats: little where it is a tie.
Exits with 1 if any tokens differ.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import httpx

from bench.errors import BenchError
from bench.options import bounded
from bench.server import end_on_sigterm, rapport
from bench.versus.figures import Setup
from bench.versus.peers import find_llama_server, llama_server
from rapport.common.model_spec import ModelSpec
from rapport.models.errors import ModelError
from rapport.models.gguf.shards import model_name
from rapport.models.importer import ensure_any, id_of
from rapport.models.onnx.precision import PRECISIONS, cpu_precision
from rapport.service.engine.text.vocabulary import Vocabulary

# Half of the lines are of these files, half random.
FILES = ("README.md", "docs/**/*.md", "service/**/*.py", "tests/models/mixed_text.txt")
# The characters of random lines, by the first and the last.
SCRIPTS = (
    *((0x20, 0x7E), (0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A), (0x09, 0x0D)),  # ASCII
    *((0xA0, 0xFF), (0x100, 0x17E), (0x300, 0x36F)),  # Latin, and marks above and below
    *((0x391, 0x3C9), (0x410, 0x44F), (0x5D0, 0x5EA), (0x620, 0x64A)),  # Greek to Arabic
    *((0x905, 0x939), (0xE01, 0xE2E), (0x3041, 0x30FE), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3)),
    *((0x2000, 0x2027), (0x2190, 0x21FF), (0x3000, 0x303F), (0xFF01, 0xFF5E)),  # signs
    *((0x1F600, 0x1F64F), (0x1F1E6, 0x1F1FF), (0x1D400, 0x1D7FF), (0x200B, 0x200D)),
)
PROMPTS = (
    "What is the capital of France?",
    "Write a Python function that reverses a string.",
    "Explain in two sentences why the sky is blue.",
    "List five animals that lay eggs.",
    "Translate into German: The weather is nice today.",
    "Write a haiku about the sea.",
    "What is 17 times 23? Show your steps.",
    "Give me a JSON object with a name and an age.",
    "Tell a short story about an old lighthouse.",
    "How does a hash table work?",
)
MAX_TOKENS = 64
ALTERNATIVES = 10
TIMEOUT_S = 300.0
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Given:
    """The tokens of a greedy answer, each with the log probabilities of the most likely ones."""

    tokens: list[bytes]
    likely: list[dict[bytes, float]]

    def preferred(self, place: int, other: bytes) -> float:
        """How much more likely its token was there than another, in nats, at least."""
        likely = self.likely[place]
        return likely[self.tokens[place]] - likely.get(other, min(likely.values()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares both servers on this machine. Returns 0 if all tokens are equal."""
    parser = argparse.ArgumentParser("bench.agreement", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("gguf", type=Path)
    add("--llama-server", metavar="PATH", help="the program, else LLAMA_SERVER's or make's own")
    add("--lines", type=bounded(int, 0, 100_000), default=2000, help="(%(default)s)")
    add("--prompts", type=bounded(int, 0, len(PROMPTS)), default=len(PROMPTS), help="(%(default)s)")
    add("--raw", action="store_true", help="continue the prompts, for models without a template")
    given = parser.parse_args(arguments)
    end_on_sigterm()
    try:
        return compare(given)
    except (BenchError, ModelError, httpx.HTTPError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def compare(given: argparse.Namespace) -> int:
    program = find_llama_server(given.llama_server)
    model = id_of(given.gguf, model_name(given.gguf))
    folder = ensure_any(model, list(dict.fromkeys([cpu_precision(), *PRECISIONS])))
    vocabulary = Vocabulary.read(folder, ModelSpec.read(folder).vocab_size)
    with llama_server(program, given.gguf, Setup()) as peer, client(peer.rest) as http:
        differing = tokens_apart(vocabulary, http, lines(given.lines))
        peers = [answer(http, model, prompt, raw=given.raw) for prompt in PROMPTS[: given.prompts]]
    if given.prompts:
        with rapport(model=model) as (_, target), client(target.rest) as http:
            for prompt, other in zip(PROMPTS, peers, strict=False):
                own = answer(http, model, prompt, raw=given.raw)
                print(verdict(prompt, own, other), flush=True)
    return 1 if differing else 0


def client(base_url: str | None) -> httpx.Client:
    return httpx.Client(base_url=str(base_url), timeout=TIMEOUT_S, trust_env=False)


def tokens_apart(vocabulary: Vocabulary, http: httpx.Client, texts: Sequence[str]) -> int:
    """How many of the texts have other tokens than the peer's; prints the first of them."""
    total = differing = 0
    for text, own in zip(texts, vocabulary.encode_batch(texts, plain=True), strict=True):
        body = {"content": text, "add_special": False, "parse_special": False}
        other = http.post("/tokenize", json=body).raise_for_status().json()["tokens"]
        total += len(own)
        differing += own != other
        if own != other and differing <= SHOWN:
            print(f"{text!r}: {own}, llama-server {other}")
    print(f"{len(texts)} lines, {total} tokens: {differing} lines differ", flush=True)
    return differing


def lines(count: int) -> list[str]:
    """Lines of text, of code and of random Unicode: the same while the files are."""
    random = Random(0)  # noqa: S311 - texts, not secrets
    written = sorted({line for line in written_lines() if line.strip()})
    some = random.sample(written, min(count // 2, len(written)))
    return some + [random_line(random) for _ in range(count - len(some))]


def written_lines() -> Iterator[str]:
    for pattern in FILES:
        for path in sorted(Path().glob(pattern)):
            yield from path.read_text(encoding="utf-8").splitlines()


def random_line(random: Random) -> str:
    """Up to 60 characters of up to three scripts, and spaces."""
    ranges = random.sample(SCRIPTS, random.randint(1, 3))
    chosen = (random.choice(ranges) for _ in range(random.randint(1, 60)))
    characters = (chr(random.randint(first, last)) for first, last in chosen)
    return "".join(" " if random.random() < 0.15 else each for each in characters)  # noqa: PLR2004


def answer(http: httpx.Client, model: str, prompt: str, *, raw: bool) -> Given:
    """A greedy answer; with `raw`, the continuation of the prompt."""
    asked = {"prompt": prompt} if raw else {"messages": [{"role": "user", "content": prompt}]}
    options = {"max_tokens": MAX_TOKENS, "temperature": 0}
    wanted = {"logprobs": True, "top_logprobs": ALTERNATIVES}
    path = "/v1/completions" if raw else "/v1/chat/completions"
    body = {"model": model, **asked, **options, **wanted}
    reply = http.post(path, json=body).raise_for_status().json()
    # llama-server counts the end of the turn among the tokens, without a text.
    places = [at for at in reply["choices"][0]["logprobs"]["content"] if spelled(at)]
    likely = [{spelled(each): each["logprob"] for each in at["top_logprobs"]} for at in places]
    return Given([spelled(at) for at in places], likely)


def spelled(token: dict[str, Any]) -> bytes:
    return bytes(token["bytes"] or token["token"].encode())


def verdict(prompt: str, own: Given, other: Given) -> str:
    """Where two answers part, if they do, and what each server preferred there by how much."""
    pairs = zip(own.tokens, other.tokens, strict=False)
    place = next((at for at, (a, b) in enumerate(pairs) if a != b), None)
    if place is None:
        same = len(own.tokens) == len(other.tokens)
        return f"{prompt!r}: {'equal' if same else 'one ends'}, {len(own.tokens)} tokens"
    mine, theirs = own.tokens[place], other.tokens[place]
    gaps = f"{own.preferred(place, theirs):.3f} and {other.preferred(place, mine):.3f} nats"
    words = f"{mine.decode(errors='replace')!r} and {theirs.decode(errors='replace')!r}"
    return f"{prompt!r}: equal for {place} tokens, then {words}, preferred by {gaps}"


if __name__ == "__main__":
    sys.exit(main())
