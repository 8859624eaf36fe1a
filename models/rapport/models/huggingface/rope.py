"""Reads the rotary embeddings of config.json, in the spelling of transformers 4 or 5."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rapport.models.decoder.families import FAMILIES
from rapport.models.decoder.rope import DEFAULT_BASE, unscaled_rope
from rapport.models.huggingface.json_file import JsonFile
from rapport.models.weights.blocks import Floats

SCALINGS = ("default", "linear", "llama3", "yarn", "longrope")
OLD_NAMES = {"su": "longrope", "none": "default"}
# Where the file does not say it.
BASES = {"gemma3_text": 1e6, "smollm3": 2e6, "olmo3": 5e5}
# Variants of YaRN that transformers has for other models.
OTHER_YARN = ("mscale", "mscale_all_dim", "truncate")
ORIGINAL = "original_max_position_embeddings"


def rope_keys(
    config: JsonFile, architecture: str, head_size: int, context_length: int
) -> dict[str, Any]:
    """What the file says of rotary embeddings, by the keys of GGUF.

    Raises:
        CorruptFileError: a value of it is not what it should be.
        UnsupportedModelError: the kind of scaling is not known.
    """
    settings, local = _settings(config)
    base = _base(config, settings)
    part = _value(config, settings, "partial_rotary_factor", 1.0)
    if part > 1:
        raise config.corrupt(f"partial_rotary_factor is {part}, over 1")
    keys: dict[str, Any] = {"rope.freq_base": base}
    keys |= _local_keys(config, architecture, base, local)
    if part < 1:
        keys["rope.dimension_count"] = int(head_size * part)
    match rope_type(config):
        case "linear":
            keys["rope.scaling.type"] = "linear"
            keys["rope.scaling.factor"] = config.positive("factor", None, settings)
        case "yarn":
            keys |= _yarn_keys(config, settings, context_length)
        case "longrope":
            keys |= _longrope_keys(config, settings, context_length)
    return keys


def rope_type(config: JsonFile) -> str:
    """The kind of scaling, as transformers calls it."""
    settings, _ = _settings(config)
    return _type_of(config, settings)


def rope_factors(config: JsonFile, rotated: int) -> dict[str, Floats]:
    """The factors that divide the frequencies, as the tensors of GGUF files that have them."""
    settings, _ = _settings(config)
    match rope_type(config):
        case "llama3":
            return {"rope_freqs.weight": _llama3_factors(config, settings, rotated)}
        case "longrope":
            return {
                f"rope_factors_{which}.weight": _list(config, settings, f"{which}_factor")
                for which in ("long", "short")
            }
    return {}


def _settings(config: JsonFile) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The settings of layers without a window or of all, and those of layers with one."""
    settings = config.value("rope_parameters", dict) or config.value("rope_scaling", dict) or {}
    if "full_attention" not in settings:
        return settings, None
    layers = (config.value(f"{kind}_attention", dict, settings) for kind in ("full", "sliding"))
    full, sliding = (each or {} for each in layers)
    return full, sliding


def _type_of(config: JsonFile, settings: dict[str, Any]) -> str:
    name = config.value("rope_type", str, settings) or config.value("type", str, settings)
    name = OLD_NAMES.get(name or "default", name or "default")
    if name not in SCALINGS:
        raise config.unsupported(f"rope_type {name}", SCALINGS)
    return name


def _value(config: JsonFile, settings: dict[str, Any], name: str, default: float) -> float:
    """A positive number of the settings or, in older files, of the file itself."""
    within = settings if settings.get(name) is not None else config.values
    return config.positive(name, default, within)


def _base(config: JsonFile, settings: dict[str, Any]) -> float:
    default = BASES.get(str(config.values.get("model_type")), DEFAULT_BASE)
    return _value(config, settings, "rope_theta", default)


def _local_keys(
    config: JsonFile, architecture: str, base: float, local: dict[str, Any] | None
) -> dict[str, Any]:
    """The base of layers with a window, if it is one of their own."""
    settings = local or {}
    if (name := _type_of(config, settings)) != "default":
        raise config.unsupported(f"rope_type {name} of sliding_attention", ["default"])
    own = config.positive("rope_theta", base, settings)
    if local is None and "rope_local_base_freq" in config.values:
        own = config.positive("rope_local_base_freq", None, config.values)
    elif local is None:
        return {}
    if not FAMILIES[architecture].local_rope and own != base:
        raise config.unsupported(f"rope_theta {own} of sliding_attention", [str(base)])
    return {"rope.freq_base_swa": own}


def _yarn_keys(config: JsonFile, settings: dict[str, Any], context_length: int) -> dict[str, Any]:
    for name in OTHER_YARN:
        if name in settings:
            raise config.unsupported(f"{name} of rope_type yarn", ["YaRN without it"])
    factor = config.positive("factor", None, settings)
    # GGUF has a factor for the usual magnitude of sines and cosines, transformers the magnitude.
    usual = 0.1 * math.log(factor) + 1 if factor > 1 else 1.0
    keys = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": factor,
        "rope.scaling.original_context_length": config.value(ORIGINAL, int, settings)
        or context_length,
        "rope.scaling.attn_factor": config.positive("attention_factor", usual, settings) / usual,
    }
    for name in ("beta_fast", "beta_slow"):
        if settings.get(name) is not None:
            keys[f"rope.scaling.yarn_{name}"] = config.positive(name, None, settings)
    return keys


def _longrope_keys(
    config: JsonFile, settings: dict[str, Any], context_length: int
) -> dict[str, Any]:
    original = config.value(ORIGINAL, int, settings) or config.value(ORIGINAL, int)
    if original is None or original <= 1:
        raise config.corrupt(f"{ORIGINAL} is {original}, not over 1")
    longer = max(context_length / original, 1.0)
    usual = math.sqrt(1 + math.log(longer) / math.log(original))
    return {
        "rope.scaling.original_context_length": original,
        "rope.scaling.attn_factor": config.positive("attention_factor", usual, settings),
    }


def _llama3_factors(config: JsonFile, settings: dict[str, Any], rotated: int) -> Floats:
    """Slow dimensions are divided by the factor, fast ones by 1, and those between by a mean."""
    names = ("factor", "low_freq_factor", "high_freq_factor", ORIGINAL)
    factor, low, high, original = (config.positive(name, None, settings) for name in names)
    if low >= high:
        raise config.corrupt(f"low_freq_factor {low} is not below high_freq_factor {high}")
    turns = original * unscaled_rope(rotated, _base(config, settings)).frequencies / (2 * math.pi)
    kept = ((turns - low) / (high - low)).clip(0, 1)
    factors: Floats = (1 / ((1 - kept) / factor + kept)).astype(np.float32)
    return factors


def _list(config: JsonFile, settings: dict[str, Any], name: str) -> Floats:
    numbers = config.value(name, list, settings) or []
    if not all(type(each) in (int, float) for each in numbers):
        raise config.corrupt(f"{name} is no list of numbers")
    return np.array(numbers, np.float32)
