"""The contract of the notebooks: ours keep it, damaged ones are told apart, and no result in prose is typed by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from typer.testing import CliRunner

from book.builder import contract, readme
from dsaml import address
from dsaml.cli.main import app

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = sorted([*ROOT.glob("book/*.md"), *ROOT.glob("*.md"), *ROOT.glob("data/*.md")])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_keeps_the_contract(path: Path) -> None:
    assert contract.problems(path) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_no_page_has_a_result_typed_by_hand(path: Path) -> None:
    text = readme.PLACE.sub("", path.read_text(encoding="utf-8"))  # made from the reference run, and compared with it
    assert contract.typed_results(text) == []


def change(number: int, old: str, new: str) -> Callable[[Any], None]:
    """Replace text in one cell, which has to be there."""

    def edit(notebook: Any) -> None:
        cell = notebook.cells[number]
        assert old in cell.source
        cell.source = cell.source.replace(old, new)

    return edit


def add(kind: str, source: str) -> Callable[[Any], None]:
    """One more cell before the last two."""
    make = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell

    def edit(notebook: Any) -> None:
        notebook.cells.insert(-2, make(source))

    return edit


def outputs_left(notebook: Any) -> None:
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    cell.outputs = [nbformat.v4.new_output("stream", text="left over")]


def no_parameters(notebook: Any) -> None:
    for cell in notebook.cells:
        cell.metadata["tags"] = [tag for tag in cell.metadata.get("tags", []) if tag != "parameters"]


def too_long(notebook: Any) -> None:
    notebook.cells[-2:-2] = [nbformat.v4.new_markdown_cell("more") for _ in range(41)]


BAD: dict[str, tuple[Callable[[Any], None], str]] = {
    "outputs left in": (outputs_left, "carries outputs"),
    "no parameters": (no_parameters, "tagged 'parameters'"),
    "too many cells": (too_long, "cells, more than 40"),
    "no badge": (change(0, contract.COLAB, "https://example.org/"), "Colab link"),
    "badge of another notebook": (change(0, "01_preprocessing.ipynb", "02_other.ipynb"), "opens another notebook"),
    "no question": (change(0, "**Question.**", "Well."), "lacks '**Question.**'"),
    "no time": (change(0, "**Time and hardware.**", ""), "lacks '**Time and hardware.**'"),
    "prerequisites before the question": (
        change(0, "**Question.**", "**Prerequisites.** None. **Question.**"),
        "another order",
    ),
    "two exercises": (change(-2, "3. **Harder.**", "**Harder.**"), "2 exercises"),
    "no summary": (change(-2, "## Summary", "## Farewell"), "## Summary"),
    "no references": (change(-2, "## References", "## Sources"), "## References"),
    "no stamp": (change(-1, "stamp_line", "str"), "stamp_line"),
    "another set-up": (change(2, "setup(profile, results)", "setup('demo', results)"), "dsaml.colab.SETUP"),
    "imports twice": (add("code", "import this"), "into one cell"),
    "long cell": (add("code", "\n".join(f"a{n} = {n}" for n in range(30))), "has 30 lines"),
    "wide line": (add("code", f"x = '{'a' * 80}'"), "line 1 is wider than 80 columns"),
    "the repository's own code": (add("code", "from book.builder import markdown"), "imports book, which is not installed"),
    "a class": (add("code", "class Model:\n    pass"), "defines a class"),
    "figure without alternative text": (add("code", "show(figures.ranks(curves))"), "no alternative text"),
    "nothing to see": (add("code", "show(figures.ranks(curves), alt='Ranks.')"), "says what to see"),
    "empty alternative text": (add("code", "show(figures.ranks(curves), alt='')"), "no alternative text"),
    "bare figure": (add("code", "figures.ranks(curves)"), "without alternative text"),
    "image without alternative text": (add("markdown", "![](picture.svg)"), "no alternative text"),
    "what only the book understands": (add("markdown", "The paper {cite}`zhang2025dsaml`."), "understood by the book alone"),
    "a relative link": (add("markdown", "See [there](02_attention_maps.ipynb)."), "[there] leads neither to a page"),
    "a link to no page": (add("markdown", f"See [there]({address.BOOK}book/no.html)."), "a page that the book does not have"),
    "typed result": (add("markdown", "The CCC rises from 0.31 to .454."), "'0.31' looks like a result"),
    "not Python": (add("code", "this is no Python"), "not valid Python"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_notebooks_are_refused(name: str, tmp_path: Path) -> None:
    damage, expected = BAD[name]
    notebook = copy.deepcopy(nbformat.read(NOTEBOOKS[0], as_version=4))
    damage(notebook)
    path = tmp_path / NOTEBOOKS[0].name
    nbformat.write(notebook, path)
    found = contract.problems(path)
    assert any(expected in text for text in found), found
    assert all(text.startswith(path.name) for text in found)


def test_what_counts_as_a_typed_result() -> None:
    text = "A CCC of .454\nand `0.05`, $0.25$, {{ ccc }}, [x](a/0.123.html), Python 3.11 or 3.12.\n-0.07 is."
    found = contract.typed_results(text)
    assert found == [(1, ".454"), (3, "-0.07")]


def test_command_names_every_breach(tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(app, ["contract", *map(str, NOTEBOOKS)]).exit_code == 0
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    no_parameters(notebook)
    outputs_left(notebook)
    path = tmp_path / NOTEBOOKS[0].name
    nbformat.write(notebook, path)
    done = runner.invoke(app, ["contract", str(path)])
    assert done.exit_code == 1
    assert "carries outputs" in done.output and "tagged 'parameters'" in done.output
