"""The contract that every notebook of the book keeps, and the rule for numbers in prose.

A notebook opens with title, Colab badge, question, time and hardware, prerequisites; sets itself up; imports; shows one idea per
cell; ends with summary, three exercises, references and the stamp of its results. ``python -m dsaml contract`` checks it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from book.builder import links, notebooks
from dsaml.address import NOTEBOOKS as COLAB
from dsaml.colab import SETUP

ROOT = Path(__file__).parents[2]
OPENING = ("# ", COLAB, "**Question.**", "**Time and hardware.**", "**Prerequisites.**")  # of the first cell, in this order
CLOSING = ("## Summary", "## Exercises", "## References")  # of the last prose cell
EXERCISES = 3
MOST_CELLS = 40
MOST_LINES = 25  # of a code cell: one idea; more belongs in the package
WIDEST = 80  # columns of code: what a page shows beside its two menus without cutting it
SETUP_TAG = "setup"
SHOW = 'write show(figure, alt="…", see="…")'

NOT_PROSE = re.compile(
    r"^```.*?^```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\{\{.*?\}\}|\]\([^)]*\)|<[^>]*>|https?://\S+|\b3\.1\d\b", re.S | re.M
)  # code, equations, placeholders, links, tags, Python's versions
RESULT = re.compile(r"(?<![\w.])[-+−]?\d*\.\d{2,}(?![\w.]*\w)")  # two digits or more after the point
IMAGE = re.compile(r"!\[\s*\]\(|<img(?![^>]*\balt=\"[^\"]+\")[^>]*>")  # without alternative text


def typed_results(text: str) -> list[tuple[int, str]]:
    """Numbers in prose that look like results, with their lines.

    A result in prose is a ``{{ name }}`` that the build fills in, or the output of a cell. A setting is code, in backticks.
    """
    prose = NOT_PROSE.sub(lambda match: "\n" * match[0].count("\n"), text)
    lines = enumerate(prose.splitlines(), start=1)
    return [(number, match[0]) for number, line in lines for match in RESULT.finditer(line)]


def _opening(cells: list[Any], name: str) -> Iterator[str]:
    text = cells[0].source if cells and cells[0].cell_type == "markdown" else ""
    places = [text.find(part) for part in OPENING]
    for part, place in zip(OPENING, places, strict=True):
        if place < 0:
            yield f"cell 1 lacks '{part.strip()}'; a notebook opens with title, Colab link, question, time, prerequisites"
    if min(places) >= 0 and (places != sorted(places) or places[0] != 0):
        yield "cell 1 has its parts in another order than title, Colab link, question, time, prerequisites"
    if COLAB in text and f"{COLAB}{name})" not in text:
        yield f"the Colab link of cell 1 opens another notebook; it ends in notebooks/{name}"


def _closing(cells: list[Any]) -> Iterator[str]:
    prose = [(number, cell.source) for number, cell in enumerate(cells, start=1) if cell.cell_type == "markdown"]
    number, text = prose[-1] if prose else (1, "")
    places = [text.find(part) for part in CLOSING]
    if min(places) < 0 or places != sorted(places):
        yield f"cell {number}, the last one of prose, needs {', '.join(CLOSING)}, in this order"
    else:
        exercises = re.findall(r"^\d+\. ", text[places[1] : places[2]], re.M)
        if len(exercises) != EXERCISES:
            yield f"cell {number} has {len(exercises)} exercises; write {EXERCISES}"
    if not cells or cells[-1].cell_type != "code" or "stamp_line(" not in cells[-1].source:
        yield "the last cell does not print a stamp_line; end with the stamp of the results that were shown"


def _code(cell: Any) -> Iterator[str]:
    """What is said of a code cell, after "cell 3"."""
    try:
        tree = ast.parse(cell.source)
    except SyntaxError as error:
        yield f" is not valid Python ({error.msg}, line {error.lineno})"
        return
    lines = len(cell.source.strip().splitlines())
    if lines > MOST_LINES:
        yield f" has {lines} lines, more than {MOST_LINES}: one idea per cell, and logic belongs in dsaml"
    if wide := [place for place, line in enumerate(cell.source.splitlines(), start=1) if len(line) > WIDEST]:
        yield f", line {wide[0]} is wider than {WIDEST} columns, and a page would cut it; break the line"
    if found := re.search(r"^\s*(?:from|import) (book|benchmarks)\b", cell.source, re.M):
        yield f" imports {found[1]}, which is not installed with dsaml; a notebook has the package alone"
    if any(isinstance(node, ast.ClassDef) for node in ast.walk(tree)):
        yield " defines a class; it belongs in dsaml"
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        function, given = ast.unparse(call.func), {keyword.arg: keyword.value for keyword in call.keywords}
        alt = given.get("alt")
        if function == "show" and (alt is None or (isinstance(alt, ast.Constant) and not str(alt.value).strip())):
            yield f": a figure has no alternative text; {SHOW}"
        elif function == "show" and "see" not in given:
            yield f": nothing under a figure says what to see; {SHOW}"
        elif function in ("plt.show", "display.Audio", "Audio"):
            yield f": {function}() has no alternative text; use show() or play() of dsaml.plots.style"
    shown = tree.body[-1] if tree.body else None
    if isinstance(shown, ast.Expr) and re.match(r"(plt|figures)\.\w+\(", ast.unparse(shown)):
        yield f": its last line draws a figure without alternative text; {SHOW}"


def _prose(cell: Any) -> Iterator[str]:
    """What is said of a cell of prose."""
    for line, value in typed_results(cell.source):
        yield f", line {line}: '{value}' looks like a result typed by hand; let a cell print it (a setting stands in backticks)"
    yield from (f": {text}" for text in links.problems(cell.source, ROOT))
    if IMAGE.search(cell.source):
        yield ": an image has no alternative text; write ![what it shows](file)"


def problems(path: Path) -> list[str]:
    """Every breach of the contract by a notebook's source, one sentence each.

    Raises
    ------
    DsamlError
        If the file is no notebook.
    """
    cells = notebooks.read(path).cells
    found = [text.removeprefix(f"{path.name}: ") for text in notebooks.problems(path, {})]
    found += [*_opening(cells, path.name), *_closing(cells)]
    if len(cells) > MOST_CELLS:
        found.append(f"{len(cells)} cells, more than {MOST_CELLS}; split the notebook")
    numbered = list(enumerate(cells, start=1))
    code = [(number, cell.source, SETUP_TAG in notebooks.tags(cell)) for number, cell in numbered if cell.cell_type == "code"]
    if [source.strip() for _, source, is_setup in code if is_setup] != [SETUP.strip()]:
        found.append(f"no cell tagged '{SETUP_TAG}' with the text of dsaml.colab.SETUP, or another text; copy it as it is")
    importing = [str(number) for number, source, is_setup in code if not is_setup and re.search(r"^(import|from) ", source, re.M)]
    if len(importing) != 1:
        found.append(f"imports stand in cells {', '.join(importing) or 'none'}; put all of them into one cell")
    for kind, check in (("code", _code), ("markdown", _prose)):
        found += [f"cell {number}{said}" for number, cell in numbered if cell.cell_type == kind for said in check(cell)]
    return [f"{path.name}: {text}" for text in found]
