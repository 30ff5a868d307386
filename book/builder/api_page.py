"""The page of the package: one section for each room, read off its folders."""

from __future__ import annotations

import ast
from pathlib import Path


def _documented(file: Path) -> bool:
    return file.is_file() and bool(ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))))


def _automodule(name: str, *options: str) -> str:
    return "\n".join(["```{eval-rst}", f".. automodule:: {name}", *(f"   {option}" for option in options), "```\n"])


def text(package: Path) -> str:
    """For each room what its ``__init__`` says, then its modules; names that start with _ stay out."""
    parts = []
    for room in sorted({file.parent for file in package.rglob("*.py")}):
        name = ".".join(room.relative_to(package.parent).parts)
        modules = [file for file in sorted(room.glob("*.py")) if file.name[0] != "_" and _documented(file)]
        if "._" in name or not modules:
            continue
        parts.append(f"## `{name}`\n")
        if _documented(room / "__init__.py"):
            parts.append(_automodule(name))
        for file in modules:
            parts += [f"### `{name}.{file.stem}`\n", _automodule(f"{name}.{file.stem}", ":members:")]
    return "\n".join(parts)
