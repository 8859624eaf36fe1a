"""Fetches models from the Hugging Face hub, into the cache that other tools share.

The library has the endpoint, the token, the cache and proxies from the variables that it documents
(HF_ENDPOINT, HF_TOKEN, HF_HOME …), and goes on with a file that was fetched in part.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from tqdm import tqdm

from rapport.models.errors import FetchError, ModelError, UnknownModelError, UnsupportedModelError
from rapport.models.gguf.shards import SHARD, shard_names
from rapport.models.huggingface.config import architecture_of
from rapport.models.huggingface.json_file import JsonFile
from rapport.models.huggingface.reader import CONFIG
from rapport.models.huggingface.safetensors_files import INDEX, WHOLE, shards_in
from rapport.models.huggingface.text import FILES
from rapport.models.progress import Progress

MAX_NAMES = 12  # of files in a message


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file or a folder that was fetched, and where it came from."""

    path: Path
    source: dict[str, str]


def fetch(repository: str, file: str | None, progress: Progress) -> Fetched:
    """Fetches the GGUF file of a repository and its other shards, or the files of a folder.

    Args:
        repository: Its owner and name.
        file: The path of a GGUF file in it; by default its safetensors, or its only GGUF file.
        progress: Is told how far it is.

    Raises:
        FetchError: the hub cannot be reached, or does not give the files.
        UnknownModelError: there is no such repository or file.
        UnsupportedModelError: there are no weights of a known kind, or config.json is not known.
    """
    return _Fetching(repository, progress).run(file)


class _Fetching:
    def __init__(self, repository: str, progress: Progress) -> None:
        self._repository = repository
        self._progress = progress
        with _explained(repository):
            about = HfApi().model_info(repository, files_metadata=True)
        self._sizes = {each.rfilename: each.size or 0 for each in about.siblings or []}
        self._revision = about.sha

    def run(self, file: str | None) -> Fetched:
        file = file or self._only_gguf()
        path = self._folder() if file is None else self._gguf(file)
        source = {"hub": self._repository, "revision": str(self._revision)}
        return Fetched(path, source | ({} if file is None else {"file": file}))

    def _only_gguf(self) -> str | None:
        """The GGUF file of a repository without safetensors."""
        if CONFIG in self._sizes and not {WHOLE, INDEX}.isdisjoint(self._sizes):
            return None
        files = self._gguf_files()
        if not files:
            what = f"{self._repository} has neither {CONFIG} with safetensors nor a GGUF file"
            raise UnsupportedModelError(what)
        if len(files) > 1:
            raise UnsupportedModelError(
                f"{self._repository} has several GGUF files; add one to the name after a colon: "
                f"{_listed(files)}"
            )
        return files[0]

    def _gguf_files(self) -> list[str]:
        """The GGUF files, of those that are split the first."""
        files = sorted(name for name in self._sizes if name.endswith(".gguf"))
        shards = {name: SHARD.fullmatch(Path(name).stem) for name in files}
        return [name for name, shard in shards.items() if not shard or int(shard["number"]) == 1]

    def _gguf(self, file: str) -> Path:
        if not file.endswith(".gguf"):
            raise UnsupportedModelError(f"{file} of {self._repository} is no GGUF file")
        parent, _, name = file.rpartition("/")
        names = [f"{parent}/{shard}" if parent else shard for shard in shard_names(Path(name))]
        for needed in names:
            if needed not in self._sizes:
                known = f"it has {_listed(self._gguf_files()) or 'no GGUF file'}"
                raise UnknownModelError(f"there is no file {needed} in {self._repository}; {known}")
        paths = self._download(names)
        return paths[file]

    def _folder(self) -> Path:
        """The folder with the files that a model is read from, config.json first."""
        config = self._download([CONFIG])[CONFIG]
        architecture_of(JsonFile(config))
        self._download(name for name in FILES if name in self._sizes and name != CONFIG)
        weights = [WHOLE]
        if WHOLE not in self._sizes:
            weights = shards_in(JsonFile(self._download([INDEX])[INDEX]))
        self._download(weights)
        return config.parent

    def _download(self, names: Iterable[str]) -> dict[str, Path]:
        """The paths of files in the cache, by name; those that are there are not fetched again."""
        paths = {}
        for name in names:
            report = self._report(name)
            report(0)
            with _explained(f"{name} of {self._repository}"):
                path = hf_hub_download(
                    self._repository,
                    name,
                    revision=self._revision,
                    tqdm_class=_bar_class(report),
                )
            paths[name] = Path(path)
        return paths

    def _report(self, name: str) -> Callable[[float], None]:
        total = max(self._sizes.get(name, 0), 1)
        return lambda done: self._progress(f"downloading {name}", done / total)


def _bar_class(report: Callable[[float], None]) -> type[tqdm]:
    """A progress bar that reports the bytes so far and shows nothing."""

    class Bar(tqdm):  # type: ignore[misc]  # tqdm has no types
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options | {"file": io.StringIO(), "disable": False})

        def update(self, n: float | None = 1) -> bool | None:
            shown: bool | None = super().update(n)
            report(self.n)
            return shown

    return Bar


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turns the errors of the library, and of the HTTP client in it, into plain words."""
    try:
        yield
    except ModelError:
        raise
    except GatedRepoError as error:
        terms = "accept its terms on its page, and set HF_TOKEN to a token of yours"
        raise FetchError(f"{what} is gated: {terms}") from error
    except RepositoryNotFoundError as error:
        private = "or it is private and HF_TOKEN does not open it"
        raise UnknownModelError(f"there is no {what} on the hub, {private}") from error
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise FetchError(f"cannot fetch {what} from the hub: {reason}") from error


def _listed(names: list[str]) -> str:
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
