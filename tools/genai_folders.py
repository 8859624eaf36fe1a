"""Makes the folders of onnxruntime-genai that the tests import, with the logits to expect.

It needs onnxruntime-genai, torch and transformers, which no other part of Rapport does. It runs in
an environment of its own that has them:

    PYTHONPATH=. python tools/genai_folders.py
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from onnxruntime_genai import Generator, GeneratorParams, Model
from onnxruntime_genai.models import builder
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

FOLDERS = Path(__file__).parents[1] / "tests/models/genai/folders"
# Longer than the window.
PROMPT = [3 + (7 * place) % 250 for place in range(24)]
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 261,
    "max_position_embeddings": 128,
    "bos_token_id": 256,
    "eos_token_id": 258,
    "pad_token_id": 256,
    "initializer_range": 0.2,
    "tie_word_embeddings": True,
    "attn_implementation": "eager",
}
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL_TOKENS = ("<s>", "<|im_start|>", "<|im_end|>", "<|endoftext|>")
# For each folder: the class in transformers, what its configuration says besides the sizes, and
# the builder's precision and options.
RECIPES: dict[str, tuple[str, dict[str, Any], str, list[str]]] = {
    "llama-int4": ("Llama", {}, "int4", []),
    "qwen3-int8": ("Qwen3", {"tie_word_embeddings": False}, "int8", []),
    "gemma2-float32": (
        "Gemma2",
        {
            "hidden_size": 16,  # the builder rounds its root, by which embeddings are scaled
            "sliding_window": 8,
            "query_pre_attn_scalar": 16,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
        "fp32",
        [],
    ),
}


def main() -> None:
    for name in RECIPES:
        write_folder(name, FOLDERS / name)


def write_folder(name: str, target: Path) -> None:
    """Makes a folder, and records the logits [tokens, vocab_size] of the prompt.

    They are those of transformers or, where weights are quantised, of onnxruntime-genai.
    """
    kind, departures, precision, options = RECIPES[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SIZES | departures)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval().float()
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as source, tempfile.TemporaryDirectory() as cache:
        model.save_pretrained(source)
        tokenizer().save_pretrained(source)
        arguments = (None, source, str(target), precision, "cpu", cache)
        builder.create_model(*arguments, **builder.parse_extra_options(*arguments, options))
    exact = precision == "fp32"
    np.save(target / "logits.npy", floats_logits(model) if exact else genai_logits(target))


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Bytes as tokens, and four special ones."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {letter: id_ for id_, letter in enumerate(letters)}
    byte_level = Tokenizer(models.BPE(vocab=ids, merges=[]))
    byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_level.decoder = decoders.ByteLevel()
    byte_level.add_special_tokens(list(SPECIAL_TOKENS))
    bos = [(SPECIAL_TOKENS[0], len(letters))]
    byte_level.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=bos)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=byte_level,
        bos_token="<s>",  # noqa: S106 - no password
        eos_token="<|im_end|>",  # noqa: S106
        pad_token="<s>",  # noqa: S106
        chat_template=TEMPLATE,
    )


def floats_logits(model: Any) -> NDArray[np.float32]:
    with torch.no_grad():
        logits: NDArray[np.float32] = model(torch.tensor([PROMPT])).logits[0].numpy()
    return logits


def genai_logits(folder: Path) -> NDArray[np.float32]:
    model = Model(str(folder))
    options = GeneratorParams(model)
    options.set_search_options(max_length=2 * len(PROMPT))
    generator = Generator(model, options)
    generator.append_tokens(np.array([PROMPT], np.int32))
    logits: NDArray[np.float32] = np.array(generator.get_output("logits"))[0]
    return logits


if __name__ == "__main__":
    main()
