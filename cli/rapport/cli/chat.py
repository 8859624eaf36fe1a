"""`rapport chat`: talk to a running service in the terminal, over gRPC."""

from __future__ import annotations

import os

# The error of a call already says what gRPC's core would log.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
from rich.console import Console

from rapport.cli.terminal import visible
from rapport.common.tls import CertificateError, TlsFiles, check_pair
from rapport.gateway.tls import channel_credentials
from rapport.v1 import chat_pb2, chat_pb2_grpc, message_pb2, model_pb2, model_pb2_grpc

# What the authors of models recommend, by the beginnings of their ids.
# Source: the model card of HuggingFaceTB/SmolLM2-135M-Instruct.
RECOMMENDED = {"smollm2": {"temperature": 0.2, "top_p": 0.9}}

# Answers are shown as they are.
console = Console(highlight=False, markup=False, emoji=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Answers one question, or holds a conversation. Returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        opened = open_channel(options)
    except (CertificateError, ValueError) as error:
        sys.stderr.write(f"rapport chat: {error}\n")
        return 2
    with opened as channel:
        try:
            Chat(channel, options).run(options.question)
        except grpc.RpcError as error:
            sys.stderr.write(f"rapport chat: {visible(error.details() or '')}\n")
            return 1
        except (KeyboardInterrupt, EOFError):
            console.print()
    return 0


def parser() -> argparse.ArgumentParser:
    port = os.environ.get("RAPPORT_GRPC_PORT", "50051")
    options = argparse.ArgumentParser(prog="rapport chat", description=__doc__)
    options.add_argument("question", nargs="*", help="ask this and exit; default: a conversation")
    options.add_argument("--target", default=f"127.0.0.1:{port}", help="address of the service")
    options.add_argument("--model", help="id of the model; default: the first that is served")
    options.add_argument("--system", help="instructions for the model")
    options.add_argument(
        "--temperature",
        type=float,
        help="how random the answers are, 0 to 2; default: what suits the model",
    )
    options.add_argument(
        "--top-p", type=float, help="share of the probable tokens; default: what suits the model"
    )
    options.add_argument(
        "--max-tokens", type=int, default=512, help="maximum number of tokens of an answer"
    )
    options.add_argument(
        "--api-key", default=os.environ.get("RAPPORT_API_KEY"), help="default: RAPPORT_API_KEY"
    )
    add_tls(options)
    return options


def add_tls(options: argparse.ArgumentParser) -> None:
    """Adds the settings of the gateway's side, by their short names."""
    options.add_argument("--tls", action="store_true", help="use TLS; implied by --ca and --cert")
    for flag, what in {
        "ca": "CA certificates (PEM) that the service is held to",
        "cert": "certificate chain (PEM) to show",
        "key": "its private key (PEM)",
        "server-name": "name in the service's certificate",
    }.items():
        variable = f"RAPPORT_UPSTREAM_{flag.replace('-', '_').upper()}"
        options.add_argument(
            f"--{flag}", default=os.environ.get(variable), help=f"{what}; default: {variable}"
        )


def open_channel(options: argparse.Namespace) -> grpc.Channel:
    """Raises CertificateError or ValueError if TLS is wanted and its files cannot be used."""
    chain, key, ca = (path and Path(path) for path in (options.cert, options.key, options.ca))
    check_pair("--cert", chain, "--key", key)
    if not (options.tls or options.server_name or chain or ca):
        return grpc.insecure_channel(options.target)
    name = options.server_name
    return grpc.secure_channel(
        options.target,
        channel_credentials(TlsFiles(chain, key, ca)),
        options=[("grpc.ssl_target_name_override", name)] if name else [],
    )


class Chat:
    """A conversation."""

    def __init__(self, channel: grpc.Channel, options: argparse.Namespace) -> None:
        self._stub = chat_pb2_grpc.ChatServiceStub(channel)
        self._metadata = key_metadata(options.api_key)
        model = options.model or first_model(channel, self._metadata)
        given = {"temperature": options.temperature, "top_p": options.top_p}
        sampling = recommended_sampling(model) | {k: v for k, v in given.items() if v is not None}
        self._request = chat_pb2.CreateChatCompletionRequest(
            model=model, max_tokens=options.max_tokens, **sampling
        )
        if options.system is not None:
            self._add(message_pb2.ROLE_SYSTEM, options.system)

    def run(self, words: Sequence[str]) -> None:
        """Asks `words`; without any, what is typed, until the input ends."""
        if words:
            self._ask(" ".join(words))
            return
        while True:
            self._ask(console.input("> "))

    def _ask(self, question: str) -> None:
        self._add(message_pb2.ROLE_USER, question)
        answer = ""
        for piece in self._pieces():
            console.print(visible(piece), end="", soft_wrap=True)
            answer += piece
        console.print()
        self._add(message_pb2.ROLE_ASSISTANT, answer)

    def _pieces(self) -> Iterator[str]:
        for reply in self._stub.StreamChatCompletion(self._request, metadata=self._metadata):
            for choice in reply.choices:
                yield choice.delta.content

    def _add(self, role: message_pb2.Role.ValueType, text: str) -> None:
        content = message_pb2.ChatContent(text=text)
        self._request.messages.add(role=role, content=content)


def recommended_sampling(model: str) -> dict[str, float]:
    """What the model's authors recommend; empty where that is not known here."""
    name = model.rpartition("/")[2]
    return next((s for prefix, s in RECOMMENDED.items() if name.startswith(prefix)), {})


def key_metadata(key: str | None) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),) if key else ()


def first_model(channel: grpc.Channel, metadata: tuple[tuple[str, str], ...]) -> str:
    models = model_pb2_grpc.ModelServiceStub(channel)
    return models.ListModels(model_pb2.ListModelsRequest(), metadata=metadata).data[0].id


if __name__ == "__main__":
    sys.exit(main())
