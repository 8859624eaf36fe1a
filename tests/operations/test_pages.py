"""The pages for readers: what they link to and which files they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "protos/README.md"])
LINK = re.compile(r"\]\(([^)#]*)(#[^)]*)?\)")
CODE_PATH = re.compile(r"`((?:\w+/)+[\w.]*)`")
# What a checkout does not have.
BUILT = (".build/", ".venv/")


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    lines = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link leads to a file, and its anchor to a heading there."""
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), target
        if anchor:
            assert anchor[1:] in headings(linked), f"{target}{anchor}"


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name != "CHANGELOG.md"],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_named_files_exist(page: Path) -> None:
    """A file or folder that a page names is there: a reader finds it."""
    for path in CODE_PATH.findall(page.read_text(encoding="utf-8")):
        if path.startswith(BUILT) or path.split("/")[0] not in {p.name for p in ROOT.iterdir()}:
            continue
        assert (ROOT / path).exists(), path


def test_readme_is_short() -> None:
    """The README is read to the end: one page of 150 lines."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
