"""The runner: what must fail, fails with a sentence that names the place; what is done, is done once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

from book.builder import api_page, notebooks, pages
from book.builder import build as book
from book.builder.build import Steps, build, toc_pages
from dsaml.config import DEMO
from dsaml.errors import DsamlError
from dsaml.experiment.results import provenance, write_result

PARAMETERS = 'profile = "demo"\nresults = "results/demo"'
ROOT = Path(__file__).parents[2]
STAMP = provenance(DEMO, None, seeds=[0], seconds=1.0, real=False)


def write_notebook(
    path: Path, *code: str, tag: bool = True, outputs: bool = False, parameters: str = PARAMETERS
) -> None:
    first = nbformat.v4.new_code_cell(parameters)
    if tag:
        first.metadata["tags"] = ["parameters"]
    if outputs:
        first.outputs = [nbformat.v4.new_output("stream", text="left over")]
    cells = [nbformat.v4.new_markdown_cell(f"# {path.stem}"), first, *map(nbformat.v4.new_code_cell, code)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


def copy_as_executed(source: Path, target: Path, *_: Any) -> None:
    """Stands in for papermill."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())


def render_all(staged: Path, root: Path) -> None:
    """Stands in for Jupyter Book: an HTML file for each page."""
    for page in ["index", *book.toc_pages(staged / "_toc.yml")]:
        target = root / "_build/html" / f"{page}.html"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("<html></html>")


class Counter:
    """Steps that are counted."""

    def __init__(
        self, execute: Callable[..., None] = copy_as_executed, render: Callable[..., None] = render_all
    ) -> None:
        self.calls: list[str] = []
        self._execute, self._render = execute, render

    def compute(self, profile: str, results: Path, cache: Path) -> None:
        self.calls.append("compute")
        write_result(results / "numbers.json", {"ccc": "0.51"}, STAMP)

    def execute(self, source: Path, target: Path, *rest: Any) -> None:
        self.calls.append(source.stem)
        self._execute(source, target, *rest)

    def render(self, staged: Path, root: Path) -> None:
        self.calls.append("render")
        self._render(staged, root)

    @property
    def steps(self) -> Steps:
        return Steps(compute=self.compute, execute=self.execute, render=self.render)

    def take(self) -> list[str]:
        calls, self.calls = self.calls, []
        return calls


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small repository with two notebooks and one page."""
    monkeypatch.setattr(pages, "from_npm", lambda package, member, cache: None)
    (tmp_path / "dsaml").mkdir()
    (tmp_path / "dsaml/model.py").write_text('"""The model."""\n')
    (tmp_path / "book").mkdir()
    (tmp_path / "book/index.md").write_text("# Hello\n\nThe CCC is {{ ccc }}.\n")
    (tmp_path / "_config.yml").write_text(
        "title: Small\nexecute:\n  execute_notebooks: 'off'\nonly_build_toc_files: true\n"
    )
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nparts:\n  - caption: N\n    chapters:\n"
        "      - file: notebooks/01_a\n        sections:\n          - file: notebooks/02_b\n"
    )
    write_notebook(tmp_path / "notebooks/01_a.ipynb", "1 + 1")
    write_notebook(tmp_path / "notebooks/02_b.ipynb", "2 + 2")
    return tmp_path


def test_unchanged_is_skipped_and_changed_is_not(root: Path) -> None:
    counter = Counter()
    everything = ["compute", "01_a", "02_b", "render"]
    assert build(root=root, steps=counter.steps) == root / "_build/html/index.html"
    assert counter.take() == everything
    build(root=root, steps=counter.steps)
    assert counter.take() == []

    (root / "dsaml/model.py").write_text('"""The model, changed."""\n')
    build(root=root, steps=counter.steps)
    assert counter.take() == everything

    write_notebook(root / "notebooks/02_b.ipynb", "2 + 3")
    build(root=root, steps=counter.steps)
    assert counter.take() == ["02_b", "render"]

    (root / "book/index.md").write_text("# Hello again\n")
    build(root=root, steps=counter.steps)
    assert counter.take() == ["render"]

    (root / "_build/html/notebooks/01_a.html").unlink()
    build(root=root, steps=counter.steps)
    assert counter.take() == ["render"]

    (root / "results/demo/numbers.json").unlink()
    build(root=root, steps=counter.steps)
    assert counter.take() == ["compute"]  # it wrote the same numbers, so nothing after it has changed


def test_a_second_build_of_the_same_book_is_refused(root: Path) -> None:
    def again(source: Path, target: Path, *rest: Any) -> None:
        with pytest.raises(DsamlError, match="_build: another process is building this book"):
            build(root=root, steps=Counter().steps)
        copy_as_executed(source, target)

    assert build(root=root, steps=Counter(execute=again).steps)
    assert build(root=root, steps=Counter().steps)


def test_changed_results_are_drawn_again_without_computing(root: Path) -> None:
    counter = Counter()
    build(root=root, steps=counter.steps)
    counter.take()
    write_result(root / "results/demo/numbers.json", {"ccc": "0.99"}, STAMP)
    build(root=root, compute=False, steps=counter.steps)
    assert counter.take() == ["01_a", "02_b", "render"]
    assert "The CCC is 0.99." in (root / "_build/stage/book/index.md").read_text()


def test_changed_packages_are_noticed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Counter()
    build(root=root, steps=counter.steps)
    counter.take()
    monkeypatch.setattr(book, "installed", lambda: ["torch==0.0"])
    build(root=root, steps=counter.steps)
    assert counter.take() == ["compute", "01_a", "02_b", "render"]


def test_only_one_notebook(root: Path) -> None:
    counter = Counter()
    assert build(only="02", root=root, steps=counter.steps) is None
    assert counter.take() == ["compute", "02_b"]
    assert build(only="01_a", root=root, steps=counter.steps) is not None
    assert counter.take() == ["01_a", "render"]
    with pytest.raises(DsamlError, match="no notebook '07'; there are: 01_a, 02_b"):
        build(only="07", root=root, steps=counter.steps)


def test_all_bad_sources_are_named_before_anything_runs(root: Path) -> None:
    write_notebook(root / "notebooks/01_a.ipynb", tag=False, outputs=True)
    write_notebook(root / "notebooks/02_b.ipynb", parameters='profile = "demo"')
    counter = Counter()
    with pytest.raises(DsamlError) as error:
        build(root=root, steps=counter.steps)
    said = str(error.value)
    assert "01_a.ipynb: cell 2 carries outputs" in said
    assert "01_a.ipynb: 0 cells are tagged 'parameters'" in said
    assert "02_b.ipynb: parameter 'results' is not in its parameters cell (cell 2)" in said
    assert counter.take() == []


def test_page_without_html(root: Path) -> None:
    def forget_one(staged: Path, root: Path) -> None:
        render_all(staged, root)
        (root / "_build/html/notebooks/02_b.html").unlink()

    with pytest.raises(DsamlError, match=r"pages of _toc.yml without HTML: notebooks/02_b"):
        build(root=root, steps=Counter(render=forget_one).steps)


def test_name_without_number(root: Path) -> None:
    (root / "book/index.md").write_text("# Hello\n\n{{ ccc }} and {{ nowhere }}\n")
    with pytest.raises(DsamlError, match=r"book/index.md, line 3: no number named 'nowhere'"):
        build(root=root, steps=Counter().steps)


def test_a_mark_that_nothing_is_made_for(root: Path) -> None:
    (root / "book/index.md").write_text("# Hello\n\n{{ nowhere }}\n\n<!-- tabels: table1 -->\n")
    with pytest.raises(DsamlError, match=r"named 'nowhere'.*\n.*book/index.md, line 5: nothing makes 'tabels'"):
        build(root=root, steps=Counter().steps)


def test_modules_are_found_by_room(tmp_path: Path) -> None:
    sources = {
        "__init__": "The package.",
        "config": "Settings.",
        "model/__init__": "The networks.",
        "model/layers": "Layers.",
        "model/_machinery": "Private.",
        "data/checks/layouts": "Layouts.",
        "empty/__init__": "Nothing yet.",
    }
    for name, docstring in sources.items():
        file = tmp_path / f"dsaml/{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'"""{docstring}"""\n')
    (tmp_path / "dsaml/cli").mkdir()
    (tmp_path / "dsaml/cli/main.py").write_text('"""Commands."""\n')

    def lines(room: str) -> list[str]:
        return [line for line in api_page.text(tmp_path / "dsaml", room).splitlines() if line.startswith(("#", ".. "))]

    assert list(api_page.rooms(tmp_path / "dsaml")) == ["package", "data", "empty", "model"]  # not the machinery
    assert lines("package") == [".. automodule:: dsaml", "## `dsaml.config`", ".. automodule:: dsaml.config"]
    assert lines("data") == ["## `dsaml.data.checks.layouts`", ".. automodule:: dsaml.data.checks.layouts"]
    model = [".. automodule:: dsaml.model", "## `dsaml.model.layers`", ".. automodule:: dsaml.model.layers"]
    assert lines("model") == model
    assert "- [`dsaml.model`](api/model.md): The networks." in api_page.listed(tmp_path / "dsaml")


def test_every_room_has_a_page_in_the_book() -> None:
    pages = {file.stem for file in (ROOT / "book/api").glob("*.md")}
    assert pages == set(api_page.rooms(ROOT / "dsaml"))
    assert {f"book/api/{room}" for room in pages} <= set(toc_pages(ROOT / "_toc.yml"))


def test_failing_cell_is_named_and_kept_and_runs_again(root: Path) -> None:
    """With papermill and a real kernel."""
    write_notebook(root / "notebooks/02_b.ipynb", "print('before')", "\n# the ratio\nx = 1 / 0", "print('after')")
    counter = Counter(execute=notebooks.execute)
    with pytest.raises(DsamlError) as error:
        build(only="02", root=root, steps=counter.steps)
    kept = root / "_build/executed/02_b.ipynb"
    assert "02_b.ipynb: cell 4 of 5 ('# the ratio'): ZeroDivisionError: division by zero" in str(error.value)
    assert str(kept) in str(error.value)
    outputs = [output for cell in nbformat.read(kept, 4).cells for output in cell.get("outputs", [])]
    assert [output.output_type for output in outputs] == ["stream", "error"]

    write_notebook(root / "notebooks/02_b.ipynb", "import sys\nprint(sys.executable)\nprint(profile, results)")
    counter.take()
    build(only="02", root=root, steps=counter.steps)
    assert counter.take() == ["02_b"]
    executed = nbformat.read(kept, 4)
    assert executed.cells[-1].outputs[0].text.splitlines()[1] == "demo results/demo"

    notebooks.tidy(kept, root / "tidy.ipynb", root)
    text = (root / "tidy.ipynb").read_text()
    assert str(root) not in text
    assert "papermill" not in text
    injected = [
        cell for cell in nbformat.read(root / "tidy.ipynb", 4).cells if "injected-parameters" in str(cell.metadata)
    ]
    assert [cell.metadata["tags"] for cell in injected] == [["injected-parameters", "remove-cell"]]


def test_the_code_of_a_figure_is_folded(tmp_path: Path) -> None:
    write_notebook(tmp_path / "a.ipynb", "figure = draw()\nshow(figure, alt='A line.')", "shown = 1")
    notebooks.tidy(tmp_path / "a.ipynb", tmp_path / "tidy.ipynb", tmp_path)
    cells = nbformat.read(tmp_path / "tidy.ipynb", 4).cells[1:]
    assert [cell.metadata.get("tags", []) for cell in cells] == [["parameters"], ["hide-input"], []]


def test_notebook_that_stops_early_is_a_failure() -> None:
    stopped = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("raise SystemExit"), nbformat.v4.new_code_cell("1")]
    )
    stopped.cells[0].execution_count = 1
    assert "cell 2 of 2 ('1') did not finish" in (notebooks.failure(stopped) or "")


def test_digest_sees_names_and_content(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    first = book.digest(tmp_path)
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    second = book.digest(tmp_path)
    (tmp_path / "b.py").write_text("2")
    assert len({first, second, book.digest(tmp_path)}) == 3


def test_torn_ledger_counts_as_nothing_done(root: Path) -> None:
    counter = Counter()
    build(root=root, steps=counter.steps)
    (root / "_build/done.json").write_text('{"html": "ab')
    counter.take()
    build(root=root, steps=counter.steps)
    assert counter.take() == ["compute", "01_a", "02_b", "render"]


def test_banner_and_modules(root: Path) -> None:
    (root / "book/_banner.md").write_text("Synthetic")
    (root / "book/api.md").write_text("# API\n\n<!-- api -->\n\n<!-- api: package -->\n")
    counter = Counter()
    build(root=root, steps=counter.steps)
    assert (root / "_build/stage/book/_banner.md").read_text() == "Synthetic"
    assert ".. automodule:: dsaml.model" in (root / "_build/stage/book/api.md").read_text()
    assert (root / "_build/stage/dsaml/model.py").is_file()  # a page lists the package's code
    write_result(root / "results/demo/numbers.json", {"ccc": np.float64(0.5)}, STAMP | {"real": True})
    build(root=root, compute=False, steps=counter.steps)
    assert "real data" in (root / "_build/stage/book/_banner.md").read_text()


def test_jupyter_book_warning_is_an_error_that_names_the_page(root: Path) -> None:
    """With the real Jupyter Book; the second try is without the fault."""
    (root / "book/index.md").write_text("# Hello\n\n[nowhere](nowhere.md)\n")
    counter = Counter(render=pages.render)
    with pytest.raises(DsamlError, match=r"book/index.md.*WARNING.*nowhere"):
        build(root=root, steps=counter.steps)
    (root / "book/index.md").write_text("# Hello\n\n$x^2$\n")
    page = build(root=root, steps=counter.steps)
    assert page and page.is_file()
    assert (root / "_build/html/book/index.html").is_file()
