"""What code can change a number: a module and everything of the package that it imports, directly or not.

Cached numbers are keyed on a hash of that code. Comments, docstrings and layout do not count; the imports are read, not
typed in a list, so that a new module cannot be forgotten.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def _file(module: str, root: Path) -> Path | None:
    """The source of a module of the package, or None if there is no such module."""
    base = root.parent.joinpath(*module.split("."))
    for file in (base.with_suffix(".py"), base / "__init__.py"):
        if file.is_file():
            return file
    return None


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Names of modules that a source may import, at its top or inside a function; some may be no modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def closure(module: str, root: Path = PACKAGE) -> dict[str, Path]:
    """A module, all modules of the package that it imports, directly or not, and the packages that hold these: their files, sorted.

    Raises
    ------
    ValueError
        If there is no such module.
    """
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = _file(name, root) if name.split(".")[0] == root.name else None
        if name == module and file is None:
            raise ValueError(f"{module}: no such module under {root}")
        if file is None or name in found:
            continue
        found[name] = file
        tree = ast.parse(file.read_text(encoding="utf-8"))
        waiting += [name.rpartition(".")[0], *_imports(tree, root.name)]
    return dict(sorted(found.items()))


@cache
def code_digest(module: str, root: Path = PACKAGE) -> str:
    """First 16 hex digits of the SHA-256 of the code of :func:`closure`, without comments and docstrings."""
    total = hashlib.sha256()
    for name, file in closure(module, root).items():
        tree = _without_docstrings(ast.parse(file.read_text(encoding="utf-8")))
        total.update(f"{name}\0{ast.dump(tree)}\0".encode())
    return total.hexdigest()[:16]
