"""Models are fetched from the hub: no more than is needed, or an error in plain words."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from rapport.common.model_spec import ModelSpec
from rapport.models.__main__ import main
from rapport.models.errors import FetchError, UnknownModelError, UnsupportedModelError
from rapport.models.hub_importer import import_from_hub
from rapport.models.huggingface.hub import fetch
from rapport.models.importer import ensure, ensure_any
from rapport.models.progress import silent
from tests.models.huggingface.hub_stand_in import REVISION, HubStandIn


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    """The hub that the library finds, with a cache and without a token."""
    stand_in = HubStandIn()
    with stand_in.serving() as address, monkeypatch.context() as patch:
        patch.setenv("HF_ENDPOINT", address)
        patch.setenv("HF_HOME", str(tmp_path / "hub"))
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.delenv("HF_TOKEN", raising=False)
        # The library reads the variables once.
        importlib.reload(constants)
        yield stand_in
    importlib.reload(constants)


@pytest.fixture
def folder(hub: HubStandIn, tiny_folder: Callable[..., Path]) -> dict[str, bytes]:
    """The files of the repository tests/Tiny, two of which no model is read from."""
    files = {path.name: path.read_bytes() for path in tiny_folder(shards=2).iterdir()}
    hub.repositories["tests/Tiny"] = files | {"README.md": b"#", "pytorch_model.bin": b"0" * 99}
    return files


def test_the_files_of_a_folder_are_fetched(hub: HubStandIn, folder: dict[str, bytes]) -> None:
    """config.json first, no others than are needed, and each once."""
    reports: list[tuple[str, float]] = []
    fetched = fetch("tests/Tiny", None, lambda *report: reports.append(report))
    assert {path.name: path.read_bytes() for path in fetched.path.iterdir()} == folder
    assert fetched.source == {"hub": "tests/Tiny", "revision": REVISION}
    assert hub.got()[0] == "config.json"
    assert sorted(hub.got()) == sorted(folder)
    assert ("downloading config.json", 0.0) in reports
    assert ("downloading model-00002-of-00002.safetensors", 1.0) in reports
    assert fetch("tests/Tiny", None, silent).path == fetched.path
    assert len(hub.got()) == len(folder)


def test_what_is_not_supported_is_refused_before_its_weights(
    hub: HubStandIn, folder: dict[str, bytes]
) -> None:
    config = json.loads(folder["config.json"]) | {"model_type": "bert"}
    hub.repositories["tests/Tiny"]["config.json"] = json.dumps(config).encode()
    with pytest.raises(UnsupportedModelError, match="model_type bert is not supported"):
        fetch("tests/Tiny", None, silent)
    assert hub.got() == ["config.json"]


def test_a_gguf_file_is_fetched_with_its_shards(hub: HubStandIn) -> None:
    """By its name, which is not needed where it is the only one."""
    shards = {f"q4/tiny-0000{number}-of-00002.gguf": bytes([number]) for number in (1, 2)}
    hub.repositories["tests/Tiny-GGUF"] = shards | {"README.md": b""}
    fetched = fetch("tests/Tiny-GGUF", None, silent)
    assert fetched.path.name == "tiny-00001-of-00002.gguf"
    assert fetched.source["file"] == "q4/tiny-00001-of-00002.gguf"
    assert [path.read_bytes() for path in sorted(fetched.path.parent.iterdir())] == [b"\1", b"\2"]
    hub.repositories["tests/Tiny-GGUF"]["tiny-q8_0.gguf"] = b"8"
    with pytest.raises(
        UnsupportedModelError, match=r"several GGUF files; .*: q4/tiny-00001-of-00002.gguf, tiny-q8"
    ):
        fetch("tests/Tiny-GGUF", None, silent)
    assert fetch("tests/Tiny-GGUF", "tiny-q8_0.gguf", silent).path.read_bytes() == b"8"


def test_a_download_is_resumed(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a broken connection brought is not fetched again."""
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
    hub.repositories["tests/big"] = {"big.gguf": bytes(1 << 20)}
    hub.cut_off = 700_000
    assert fetch("tests/big", "big.gguf", silent).path.stat().st_size == 1 << 20
    ranges = [wanted for way, _, wanted in hub.requests if way == "GET"]
    assert ranges == [None, f"bytes={700_000 // 65536 * 65536}-"]


@pytest.mark.usefixtures("folder")
def test_a_gated_model_takes_a_token(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated.add("tests/Tiny")
    with pytest.raises(FetchError, match=r"of tests/Tiny is gated: accept its terms.*HF_TOKEN"):
        fetch("tests/Tiny", None, silent)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert fetch("tests/Tiny", None, silent).path.is_dir()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("repository", "file", "error", "reason"),
    [
        ("tests/none", None, UnknownModelError, "there is no tests/none on the hub, or it is priv"),
        (
            "tests/Tiny",
            "a.gguf",
            UnknownModelError,
            "no file a.gguf in tests/Tiny; it has no GG",
        ),
        ("tests/Tiny", "../a.gguf", UnknownModelError, r"no file \.\./a.gguf in tests/Tiny"),
        ("tests/Tiny", "README.md", UnsupportedModelError, "README.md of tests/Tiny is no GGUF"),
        ("tests/empty", None, UnsupportedModelError, "neither config.json with safetensors nor a"),
    ],
)
def test_what_is_not_there_is_said(
    hub: HubStandIn, repository: str, file: str | None, error: type[Exception], reason: str
) -> None:
    hub.repositories["tests/empty"] = {"README.md": b""}
    with pytest.raises(error, match=reason):
        fetch(repository, file, silent)


def test_a_hub_that_cannot_be_reached_is_said(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HubStandIn().serving() as address:
        pass
    monkeypatch.setattr(constants, "ENDPOINT", address)
    with pytest.raises(FetchError, match="cannot fetch tests/Tiny from the hub: "):
        fetch("tests/Tiny", None, silent)
    assert not hub.requests


@pytest.mark.usefixtures("folder")
def test_a_model_of_the_hub_is_served_by_its_name(hub: HubStandIn, cache: Path) -> None:
    """It is fetched and imported once, in 8 bits; its model.json says where it came from."""
    made = ensure_any("hf:tests/Tiny", ["int4", "int8"])
    assert made == cache / "models" / "tiny" / "int8"
    source = ModelSpec.read(made).source
    assert source.items() >= {"hub": "tests/Tiny", "revision": REVISION}.items()
    hub.repositories.clear()
    assert ensure("hf:tests/Tiny", "int8") == made
    assert ensure_any("hf:tests/Tiny", ["int4", "int8"]) == made
    with pytest.raises(UnsupportedModelError, match=r"from tests/Tiny: add .*other/Tiny .*--name"):
        ensure("hf:other/Tiny", "int8")


@pytest.mark.usefixtures("folder", "cache")
def test_it_is_added_under_another_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["add", "hf:tests/Tiny", "--name", "mine", "--precision", "int4"]) == 0
    plan, *_, made = capsys.readouterr().out.splitlines()
    assert plan.startswith("mine: llama, 2 layers")
    assert made.endswith("models/mine/int4")


@pytest.mark.usefixtures("cache")
def test_a_known_models_name_is_refused_before_its_files(hub: HubStandIn) -> None:
    """A repository called as one would replace it; under a name of its own it may be added."""
    with pytest.raises(UnsupportedModelError, match="is another model: give it a --name"):
        ensure_any("hf:tests/SmolLM2-135M-Instruct", ["int8"])
    assert hub.got() == []


@pytest.mark.parametrize("name", ["hf:", "hf:tiny", "hf:a/b/c", "hf:../x", "hf:a/b:", "hf:a/b:c:d"])
def test_a_name_has_an_owner(name: str) -> None:
    with pytest.raises(UnknownModelError, match=r"is not of the form hf:owner/name"):
        import_from_hub(name, ["int4"])
