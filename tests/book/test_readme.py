"""The README's first screen: its numbers and its picture are the reference run's."""

from pathlib import Path

import pytest

from book.builder import readme
from dsaml.errors import DsamlError

ROOT = Path(__file__).parents[2]


def test_sentence_and_picture_are_the_reference_runs():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.PLACE.search(text)[0] == readme.sentence(), "run: python -m book.builder.readme"
    assert readme.stamp() in (ROOT / readme.PICTURE).read_text(encoding="utf-8"), "run: python -m book.builder.readme"
    assert str(readme.PICTURE) in text
    assert "simulated" in readme.sentence()


def test_writing_them_again_changes_only_their_place(tmp_path):
    (tmp_path / readme.PICTURE).parent.mkdir(parents=True)
    (tmp_path / "README.md").write_text("# A\n\n<!-- what came out -->\nold\n<!-- end -->\n\nB\n", encoding="utf-8")
    readme.write(tmp_path)
    new = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert new == f"# A\n\n<!-- what came out -->\n{readme.sentence()}\n<!-- end -->\n\nB\n"
    assert readme.stamp() in (tmp_path / readme.PICTURE).read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text("# A\n", encoding="utf-8")
    with pytest.raises(DsamlError, match="what came out"):
        readme.write(tmp_path)
