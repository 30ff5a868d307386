"""The notebooks: check a source, execute it with papermill, tidy the executed copy for the book.

A source holds no outputs and one cell tagged ``parameters``. Papermill itself only warns about a parameter that the
notebook does not have; here that is an error, like everything else that would leave a page without what it promises.
"""

from __future__ import annotations

import ast
import logging
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from book.builder import links
from dsaml.errors import DsamlError, require_file

PARAMETERS_TAG = "parameters"
INJECTED_TAG = "injected-parameters"  # papermill's name for the cell it adds
ERROR_TAG = "papermill-error-cell-tag"  # papermill's name for its banner above a failed notebook
KERNEL = "python3"
FIGURE = re.compile(r"^\s*show\(", re.M)  # in a cell that draws one


def tags(cell: Any) -> list[str]:
    """Of one cell."""
    return cell.metadata.get("tags", [])


def read(path: Path) -> Any:
    """Read a notebook.

    Raises
    ------
    DsamlError
        If it is not a version 4 notebook.
    """
    require_file(path, "notebook", "correct the name")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nbformat warns about cells without ids; the sources are not altered
            return nbformat.read(path, as_version=4)
    except (OSError, ValueError, AttributeError, TypeError, nbformat.ValidationError) as error:
        said = (str(error).splitlines() or ["damaged"])[0]
        raise DsamlError(f"{path}: not a readable notebook ({said}); open it in Jupyter and save it again") from error


def parameter_names(cell_source: str) -> set[str]:
    """The names assigned at the top level of the ``parameters`` cell."""
    names = set()
    for node in ast.parse(cell_source).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def problems(path: Path, parameters: Mapping[str, Any]) -> list[str]:
    """Everything that keeps a source from being executed, one sentence each, the notebook named in each."""
    code = [(number, cell) for number, cell in enumerate(read(path).cells, start=1) if cell.cell_type == "code"]
    found = [
        f"{path.name}: cell {number} carries outputs; clear the outputs and save (a source never holds them)"
        for number, cell in code
        if cell.outputs or cell.execution_count is not None
    ]
    tagged = [(number, cell) for number, cell in code if PARAMETERS_TAG in tags(cell)]
    if len(tagged) != 1:
        return [*found, f"{path.name}: {len(tagged)} cells are tagged '{PARAMETERS_TAG}'; tag exactly one code cell"]
    number, cell = tagged[0]
    try:
        known = parameter_names(cell.source)
    except SyntaxError as error:
        return [*found, f"{path.name}: the parameters cell (cell {number}) is not valid Python ({error.msg})"]
    return found + [
        f"{path.name}: parameter '{name}' is not in its parameters cell (cell {number}); add '{name} = …' there"
        for name in parameters
        if name not in known
    ]


def failure(executed: Any) -> str | None:
    """What went wrong in an executed notebook, naming the cell by its place in the source; None if nothing did."""
    cells = [cell for cell in executed.cells if not {INJECTED_TAG, ERROR_TAG} & set(tags(cell))]
    for number, cell in enumerate(cells, start=1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        where = f"cell {number} of {len(cells)} ('{cell.source.strip().splitlines()[0]}')"
        for output in cell.outputs:
            if output.output_type == "error":
                lines = output.evalue.strip().splitlines() or ["no message"]
                return f"{where}: {output.ename}: {lines[0]}"
        if cell.execution_count is None:
            return f"{where} did not finish (its kernel stopped)"
    return None


def execute(source: Path, target: Path, parameters: Mapping[str, Any], folder: Path, progress: bool = False) -> None:
    """Execute ``source`` into ``target`` in the running interpreter's own kernel, which works in ``folder``.

    The source is never written to; the target is written after every cell, so that a failed run can be looked at.

    Raises
    ------
    DsamlError
        If a cell fails or the kernel dies: names notebook, cell, its first line and the exception.
    """
    import papermill  # about a second to import, and not needed when nothing has changed

    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # this environment's kernel, not one of the user's
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # ipykernel's debugger warns on every start otherwise
    for name in ("papermill", "nbclient", "traitlets"):
        logging.getLogger(name).setLevel(logging.WARNING)  # the runner has its own lines
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    trouble: Exception | None = None
    try:
        papermill.execute_notebook(
            str(source),
            str(target),
            parameters=dict(parameters),
            cwd=str(folder),
            kernel_name=KERNEL,
            language="python",
            progress_bar=progress,
            extra_arguments=["--log-level=50"],  # the kernel talks of its sockets; a cell's own error is in its output
        )
    except Exception as error:  # papermill, nbclient and the kernel each have their own; told apart below
        trouble = error
    said = failure(read(target)) if target.is_file() else None
    if said is None and trouble is not None:
        lines = str(trouble).strip().splitlines() or ["no message"]
        said = f"{type(trouble).__name__}: {lines[-1]}"
    if said is not None:
        raise DsamlError(f"{source.name}: {said}; the notebook as far as it ran is kept in {target}") from trouble


def tidy(executed: Path, target: Path, root: Path) -> None:
    """Copy an executed notebook for the book: its prose as MyST, the injected cell hidden, the code of figures folded, no
    machine's paths and times inside; its links lead to pages and works of the repository ``root``."""
    notebook = read(executed)
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = links.for_the_book(cell.source, root)
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if INJECTED_TAG in tags(cell):
            cell.metadata["tags"] = [*tags(cell), "remove-cell"]
        elif cell.cell_type == "code" and FIGURE.search(cell.source):
            cell.metadata["tags"] = [*tags(cell), "hide-input"]
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)
