"""The pages of the package: one for each room, read off its folder; what users call, without the machinery."""

from __future__ import annotations

import ast
import re
from pathlib import Path

MACHINERY = ("cli", "runtime", "address", "colab", "io")  # what runs commands, processes and files: nobody calls it


def _documented(file: Path) -> str:
    """A module's docstring; "" without one, and without the file."""
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "") if file.is_file() else ""


def _automodule(name: str, *options: str) -> str:
    return "\n".join(["```{eval-rst}", f".. automodule:: {name}", *(f"   {option}" for option in options), "```\n"])


def rooms(package: Path) -> dict[str, list[Path]]:
    """The folders that a page is about, by its name: those below a room belong to it. "package" is the outermost one alone."""
    found: dict[str, list[Path]] = {"package": [package]}
    for folder in sorted({file.parent for file in package.rglob("*.py")} - {package}):
        room = folder.relative_to(package).parts[0]
        if room not in MACHINERY and not any(part.startswith("_") for part in folder.relative_to(package).parts):
            found.setdefault(room, []).append(folder)
    return found


def text(package: Path, room: str) -> str:
    """A room's modules: what its ``__init__`` says, then each of them; names that start with _ stay out."""
    parts = []
    for folder in rooms(package)[room]:
        name = ".".join(folder.relative_to(package.parent).parts)
        if _documented(folder / "__init__.py"):
            parts.append(_automodule(name))
        for file in sorted(folder.glob("*.py")):
            if file.name[0] != "_" and file.stem not in MACHINERY and _documented(file):
                parts += [f"## `{name}.{file.stem}`\n", _automodule(f"{name}.{file.stem}", ":members:")]
    return "\n".join(parts)


def listed(package: Path) -> str:
    """All rooms, with the first line of what each says."""
    lines = []
    for room, (folder, *_) in rooms(package).items():
        said = _documented(folder / "__init__.py").split("\n\n")[0].replace("\n", " ")
        name = "dsaml" if room == "package" else f"dsaml.{room}"
        plain = re.sub(r":[a-z]+:(?=`)", "", said)
        lines.append(f"- [`{name}`](api/{room}.md): {plain}")
    return "\n".join(lines)
