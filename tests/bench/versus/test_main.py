from __future__ import annotations

from bench.versus.__main__ import contenders
from bench.versus.catalog import WORKLOADS
from bench.versus.options import parse


def test_another_file_is_compared_by_the_name_of_its_import() -> None:
    """Rapport serves it by that name, and requests ask for it."""
    (own,) = contenders(WORKLOADS[0], parse(["--gguf", "models/My Model.gguf"]), None)
    assert own.command == ["rapport", "serve", "--model", "my-model"]
    assert own.model == "my-model"
    (own,) = contenders(WORKLOADS[0], parse([]), None)
    assert own.model == "smollm2-135m-instruct"
