"""Hints and solutions: every exercise of every notebook has both, and every solution runs and holds."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book/solutions.md").read_text(encoding="utf-8")
PARTS = dict(re.findall(r"^## Notebook (\d\d): [^\n]*\n(.*?)(?=^\(solutions-|^## |\Z)", PAGE, re.S | re.M))
CODE = re.compile(r"^```python\n(.*?)^```$", re.S | re.M)


def dropdowns(text: str) -> list[tuple[str, str]]:
    """Title and content of each folded part."""
    return re.findall(r"^:::\{dropdown\} ([^\n]*)\n(.*?)^:::$", text, re.S | re.M)


def exercises(number: str) -> dict[str, str]:
    """What stands below each exercise of a notebook's section, by its number and level."""
    found = re.findall(r"^\*\*(\d\. \w+)\.\*\*(.*?)(?=^\*\*\d\. |\Z)", PARTS[number], re.S | re.M)
    return {f"{number} {head}": text for head, text in found}


EXERCISES = {name: text for number in PARTS for name, text in exercises(number).items()}


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_exercise_has_a_hint_and_a_solution(notebook: Path) -> None:
    cells = [cell.source for cell in nbformat.read(notebook, 4).cells if cell.cell_type == "markdown"]
    asked = re.findall(r"^(\d)\. \*\*(\w+)\.\*\*", cells[-1], re.M)
    number = notebook.stem[:2]
    assert list(exercises(number)) == [f"{number} {k}. {level}" for k, level in asked]
    for text in exercises(number).values():
        titles = [title for title, _ in dropdowns(text)]
        assert titles[-2:] == ["Hint", "Solution"] and titles[:-2] in ([], ["Starter code"])
    assert "book/solutions.html" in cells[-1]  # where the reader finds them


@pytest.mark.parametrize("name", EXERCISES)
def test_solutions_hold(name: str, capsys: pytest.CaptureFixture) -> None:
    shared = [text for title, text in dropdowns(PARTS[name[:2]]) if title == "Starter code for all three"]
    own = [text for title, text in dropdowns(EXERCISES[name]) if title in ("Starter code", "Solution")]
    blocks = [block for text in [*shared, *own] for block in CODE.findall(text)]
    assert "assert " in blocks[-1]
    assert max(len(line) for block in blocks for line in block.splitlines()) <= 80
    space = {"__name__": "solution"}
    for block in blocks:
        exec(compile(block, name, "exec"), space)
