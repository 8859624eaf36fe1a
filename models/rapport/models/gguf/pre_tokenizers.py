# ruff: noqa: RUF001 - the expressions have punctuation of many scripts
"""The pre-tokenizers that `tokenizer.ggml.pre` of a GGUF file names.

They cut a text into words, within which tokens are merged. The expressions are those of the
tokenizer.json of the models that the names stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Split
from tokenizers.pre_tokenizers import Sequence as InTurn

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
PUNCTUATION = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
# Words in which upper case comes before lower case.
CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
)
PUNCTUATION_AND_SLASHES = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"

QWEN2 = f"{CONTRACTIONS}|{LETTERS}|\\p{{N}}|{PUNCTUATION}|{SPACES}"
LLAMA3 = f"{CONTRACTIONS}|{LETTERS}|\\p{{N}}{{1,3}}|{PUNCTUATION}|{SPACES}"
TEKKEN = f"{CASED[0]}|{CASED[1]}|\\p{{N}}|{PUNCTUATION_AND_SLASHES}|{SPACES}"
GPT_4O = (
    f"{CASED[0]}{CONTRACTIONS}?|{CASED[1]}{CONTRACTIONS}?|"
    f"\\p{{N}}{{1,3}}|{PUNCTUATION_AND_SLASHES}|{SPACES}"
)
CJK = "[一-龥぀-ゟ゠-ヿ]+"
DEEPSEEK_V3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
    r" ?[\p{P}\p{S}]+[\r\n]*|" + SPACES
)


@dataclass(frozen=True, slots=True)
class BpePreTokenizer:
    """How a byte-level vocabulary cuts words.

    Attributes:
        cuts: Expressions, applied in turn; what they match and what is between are apart.
        gpt2_words: Whether GPT-2's words are cut afterwards.
        single_digits: Whether each digit is apart, before all else.
        whole_words: Whether a word that is a token is that token, whatever the merges say.
        begins_with_bos: Whether prompts begin with BOS where the file does not say so.
    """

    cuts: Sequence[str] = ()
    gpt2_words: bool = False
    single_digits: bool = False
    whole_words: bool = False
    begins_with_bos: bool = False

    def build(self) -> PreTokenizer:
        parts: list[PreTokenizer] = []
        if self.single_digits:
            parts.append(Digits(individual_digits=True))
        parts += [Split(Regex(cut), "isolated") for cut in self.cuts]
        parts.append(ByteLevel(add_prefix_space=False, use_regex=self.gpt2_words))
        return parts[0] if len(parts) == 1 else InTurn(parts)


_GPT2 = BpePreTokenizer(gpt2_words=True)
_DIGITS = BpePreTokenizer(gpt2_words=True, single_digits=True)
_QWEN2 = BpePreTokenizer((QWEN2,))
_LLAMA3 = BpePreTokenizer((LLAMA3,), whole_words=True, begins_with_bos=True)
_CL100K = BpePreTokenizer((LLAMA3,))
_GPT_4O = BpePreTokenizer((GPT_4O,))

BPE_PRE_TOKENIZERS = {
    "gpt-2": _GPT2,
    "phi-2": _GPT2,
    "mpt": _GPT2,
    "olmo": _GPT2,
    "jais": _GPT2,
    "exaone4": _GPT2,
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "refact": _DIGITS,
    "command-r": _DIGITS,
    "codeshell": _DIGITS,
    "exaone": _DIGITS,
    "minerva-7b": _DIGITS,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "stablelm2": _QWEN2,
    "megrez": _QWEN2,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama-bpe": _LLAMA3,
    "falcon3": _LLAMA3,
    "pixtral": _LLAMA3,
    "lfm2": _LLAMA3,
    "dbrx": _CL100K,
    "smaug-bpe": _CL100K,
    "glm4": _CL100K,
    "chatglm-bpe": _CL100K,
    "tekken": BpePreTokenizer((TEKKEN,), whole_words=True, begins_with_bos=True),
    "gpt-4o": _GPT_4O,
    "llama4": _GPT_4O,
    "falcon": BpePreTokenizer((r"[\p{P}\$\+<=>\^~\|`]+", "[0-9][0-9][0-9]"), gpt2_words=True),
    "deepseek-coder": BpePreTokenizer(
        ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}")
    ),
    "deepseek-llm": BpePreTokenizer(
        (
            "[\r\n]",
            r"\s?[\p{Lu}\p{Ll}\p{Lt}]+",
            r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
            r"\s+$",
            "[一-龥ࠀ-一가-퟿]+",
            r"\p{N}+",
        )
    ),
    "deepseek-v3": BpePreTokenizer((r"\p{N}{1,3}", CJK, DEEPSEEK_V3)),
}
