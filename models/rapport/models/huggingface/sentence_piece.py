"""Reads tokenizer.model, the vocabulary of SentencePiece, where there is no tokenizer.json.

Source of the numbers: sentencepiece_model.proto. What of it is not read is left out here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from rapport.models.errors import CorruptFileError, UnsupportedModelError
from rapport.models.gguf.vocabulary import (
    CONTROL,
    NORMAL,
    SENTENCE_PIECE,
    USER_DEFINED,
    Vocabulary,
)

BPE = 2  # of the kinds of models; 1 is unigram
Field = descriptor_pb2.FieldDescriptorProto
# Message: its fields by name, with number and type. Enumerations are read as numbers.
MESSAGES = {
    "Piece": {
        "piece": (1, Field.TYPE_STRING),
        "score": (2, Field.TYPE_FLOAT),
        "type": (3, Field.TYPE_INT32),  # as those of GGUF files; 1 where it is left out
    },
    "Trainer": {"model_type": (3, Field.TYPE_INT32), "byte_fallback": (35, Field.TYPE_BOOL)},
    "Normalizer": {"add_dummy_prefix": (3, Field.TYPE_BOOL)},
}
PARTS = {"pieces": (1, "Piece"), "trainer": (2, "Trainer"), "normalizer": (3, "Normalizer")}


def read_pieces(path: Path, added: Mapping[str, Any], plain: Collection[str] = ()) -> Vocabulary:
    """The vocabulary in a file, and behind it `added` tokens with their ids.

    Those are special, but for `plain` ones.

    Raises:
        CorruptFileError: the file is damaged, or the ids are not the next ones.
        UnsupportedModelError: it is no BPE with tokens for bytes.
        OSError: it cannot be read.
    """
    try:
        model = _model_class().FromString(path.read_bytes())
    except DecodeError as error:
        raise CorruptFileError(f"{path} is no model of SentencePiece: {error}") from error
    if model.trainer.model_type != BPE or not model.trainer.byte_fallback:
        raise UnsupportedModelError(
            f"{path}: model_type {model.trainer.model_type or 1} is not supported; "
            f"known: {BPE} (BPE) with byte_fallback"
        )
    tokens = [each.piece for each in model.pieces]
    more = _in_order(path, tokens, added)
    if len(set(tokens)) != len(tokens):
        raise CorruptFileError(f"{path}: a token is there twice")
    normalizer = model.normalizer
    return Vocabulary(
        tokens + more,
        [each.type or NORMAL for each in model.pieces]
        + [USER_DEFINED if token in plain else CONTROL for token in more],
        model=SENTENCE_PIECE,
        scores=[each.score for each in model.pieces] + [0.0] * len(more),
        space_prefix=normalizer.add_dummy_prefix or not normalizer.HasField("add_dummy_prefix"),
    )


def _in_order(path: Path, tokens: list[str], added: Mapping[str, Any]) -> list[str]:
    """The added tokens that the file itself does not have, by id."""
    known = set(tokens)
    by_id = {str(id_): token for token, id_ in added.items() if token not in known}
    ids = [str(len(tokens) + place) for place in range(len(by_id))]
    if by_id.keys() != set(ids):
        raise CorruptFileError(f"{path}: ids of added tokens are not those after its {len(tokens)}")
    return [by_id[id_] for id_ in ids]


@cache
def _model_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="pieces.proto", package="pieces")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, type_) in fields.items():
            message.field.add(name=field, number=number, type=type_, label=Field.LABEL_OPTIONAL)
    whole = file.message_type.add(name="Model")
    for field, (number, part) in PARTS.items():
        label = Field.LABEL_REPEATED if field == "pieces" else Field.LABEL_OPTIONAL
        type_name = f".pieces.{part}"
        whole.field.add(
            name=field, number=number, type=Field.TYPE_MESSAGE, type_name=type_name, label=label
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("pieces.Model"))
