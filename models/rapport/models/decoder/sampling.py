"""The sampling values that a model's files advise."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from rapport.common.model_spec import SamplingDefaults


def sampling_defaults(advised: Mapping[str, object]) -> SamplingDefaults:
    """Those of the values that a request may have, by the names of its fields."""
    known = SamplingDefaults.model_fields.keys() & advised.keys()
    fitting = {name: advised[name] for name in known if _fits(name, advised[name])}
    return SamplingDefaults.model_validate(fitting)


def _fits(name: str, value: object) -> bool:
    try:
        SamplingDefaults.model_validate({name: value}, strict=True)
    except ValidationError:
        return False
    return True
