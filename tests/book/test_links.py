"""Links are plain and absolute in the sources, the book's own in the book; the address is filled in at one stroke."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from book.builder import links, notebooks, pages, publish
from dsaml import address
from dsaml.errors import DsamlError

ROOT = Path(__file__).parents[2]
SOURCES = sorted(ROOT.glob("notebooks/*.ipynb"))


def test_a_source_becomes_myst() -> None:
    text = (
        f"[Open in Colab]({address.NOTEBOOKS}01_preprocessing.ipynb) [two]({address.BOOK}notebooks/02_attention_maps.html) "
        f"[claims]({address.BOOK}book/claims.html#c1) [Finn et al. (2017)](https://arxiv.org/abs/1703.03400) "
        "[x](https://example.org/) ![a picture](here.svg)"
    )
    rest = (
        "[two](02_attention_maps.ipynb) [claims](../book/claims.md#c1) {cite}`finn2017maml` [x](https://example.org/) "
        "![a picture](here.svg)"
    )
    colab = f"[Open in Colab]({address.NOTEBOOKS}01_preprocessing.ipynb)"
    assert links.for_the_book(text, ROOT, published=True) == f"{colab} {rest}"
    assert links.for_the_book(text, ROOT, published=False) == f"{links.NO_ADDRESS} {rest}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_notebook_cites_and_links_within_the_book(source: Path, tmp_path: Path) -> None:
    notebooks.tidy(source, tmp_path / source.name, ROOT)
    prose = "\n".join(c.source for c in notebooks.read(tmp_path / source.name).cells if c.cell_type == "markdown")
    assert "{cite}`zhang2025dsaml`" in prose or "{cite}`finn2017maml`" in prose
    assert address.BOOK not in prose and "](https://arxiv.org" not in prose
    assert (links.NO_ADDRESS in prose) is not address.PUBLISHED


def test_the_book_says_when_it_has_no_address(tmp_path: Path) -> None:
    written = {}
    for published in (True, False):
        pages._configure(ROOT / "_config.yml", tmp_path / "_config.yml", False, published)
        written[published] = yaml.safe_load((tmp_path / "_config.yml").read_text(encoding="utf-8"))
    assert written[True]["repository"]["url"] == address.URL and written[True]["launch_buttons"]
    assert "without a public address" not in written[True]["html"]["extra_footer"]
    assert not {"repository", "launch_buttons"} & set(written[False]) and not written[False]["html"]["use_repository_button"]
    assert "without a public address" in written[False]["html"]["extra_footer"]


def test_no_account_can_take_the_placeholder() -> None:
    assert not publish.NAME.fullmatch(address.PLACEHOLDER)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files that hold the address."""
    for pattern in (str(publish.ADDRESS), *publish.COPIES):
        for file in ROOT.glob(pattern):
            (tmp_path / file.relative_to(ROOT)).parent.mkdir(exist_ok=True)
            shutil.copy(file, tmp_path / file.relative_to(ROOT))
    return tmp_path


def test_publishing_fills_the_address_in_everywhere_and_again(copy: Path) -> None:
    changed = publish.publish("ada/music", copy)
    assert len(changed) == len(SOURCES) + 4
    assert 'PLACEHOLDER = "YOUR_ACCOUNT/' in (copy / publish.ADDRESS).read_text(encoding="utf-8")
    for file in changed:
        text = (copy / file).read_text(encoding="utf-8")
        assert "ada/music" in text
        if file != publish.ADDRESS:
            assert address.REPOSITORY not in text and address.BOOK not in text
    first = json.loads((copy / "notebooks/02_attention_maps.ipynb").read_text(encoding="utf-8"))
    prose = "".join("".join(cell["source"]) for cell in first["cells"])
    assert "git+https://github.com/ada/music" in prose and "https://ada.github.io/music/notebooks/01_preprocessing.html" in prose
    assert publish.publish("ada/music", copy, before="ada/music") == []
    assert len(publish.publish("bob/music-2", copy, before="ada/music")) == len(changed)
    assert not any("/ada/music" in (copy / file).read_text(encoding="utf-8") for file in changed)


@pytest.mark.parametrize("name", ["", "ada", "a b/c", "https://github.com/ada/music", "_x/y", "ada/music/x"])
def test_what_is_no_name_changes_nothing(name: str, copy: Path) -> None:
    before = {file: file.read_bytes() for file in copy.rglob("*") if file.is_file()}
    with pytest.raises(DsamlError, match="no name of a repository; write REPO=owner/name"):
        publish.publish(name, copy)
    assert {file: file.read_bytes() for file in copy.rglob("*") if file.is_file()} == before


def test_every_copy_of_the_address_is_the_one_that_decides() -> None:
    for pattern in publish.COPIES:
        for file in ROOT.glob(pattern):
            text = file.read_text(encoding="utf-8")
            assert f"github.com/{address.REPOSITORY}" in text or f"/github/{address.REPOSITORY}" in text, file
