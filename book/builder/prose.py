"""What the build puts into the prose: numbers, and the tables, lists and pictures that it makes.

``{{ name }}`` stands for a number from ``numbers.json``, ``data/*.json`` or ``data/bench``, or for a claim's words;
``<!-- page: name -->`` for what the module ``PAGE_page`` makes. Whatever is written so and is not known fails the build.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from book.builder import (
    api_page,
    claims_page,
    floors_page,
    listeners_page,
    method_page,
    speed_page,
    tables_page,
)
from dsaml.errors import DsamlError
from dsaml.evaluate.floors import read_facts
from dsaml.experiment.results import read_result, stamp_line

NUMBER = re.compile(r"\{\{\s*([A-Za-z][\w.-]*)\s*\}\}")
MARK = re.compile(r"<!-- ([a-z]+)(?:: ([a-z0-9-]+))? -->")


def numbers(results: Path) -> dict[str, str]:
    """The numbers of a run: the flat mapping in ``numbers.json``, and its stamp under the name ``stamp``."""
    path = results / "numbers.json"
    if not path.is_file():
        return {}
    document = read_result(path)
    flat = {name: str(value) for name, value in document.items() if name != "provenance"}
    return flat | {"stamp": stamp_line(document)}


def _short(value: Any) -> str:
    """Two significant digits of a small number, all digits before the point of a large one."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 10 else f"{value:.2g}"
    return str(value)


def facts(data: Path) -> dict[str, str]:
    """Committed numbers: those of ``facts.json`` ("facts.disagreement_arousal") and ``listeners.json``, and the measured times in
    ``bench/*.json`` ("bench.inputs.one_core.mel_clip_seconds")."""

    def walk(name: str, value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for key, item in value.items():
                yield from walk(f"{name}.{key}", item)
        elif value is not None and not isinstance(value, list):
            yield name, _short(value)

    files = {name: data / f"{name}.json" for name in ("facts", "listeners")}
    files |= {f"bench.{file.stem}": file for file in sorted(data.glob("bench/*.json"))}
    documents = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.is_file()}
    return {name: value for prefix, document in documents.items() for name, value in walk(prefix, document)}


def makers(root: Path, runs: Sequence[Path], figures: Path) -> dict[str, Callable[[str], str]]:
    """What puts text in the place of a mark, by page; pictures go into a folder ``figures`` beside the pages.

    ``runs`` are folders of result files, see :func:`book.builder.reference.choose`.
    """
    data = root / "data"
    return {
        "api": lambda name: api_page.text(root / "dsaml", name) if name else api_page.listed(root / "dsaml"),
        "claims": lambda name: claims_page.text(name, runs, figures),
        "floors": lambda name: floors_page.text(read_facts(data / "floors.json"), tables_page.read(data)),
        "method": lambda name: method_page.text(name, data),
        "listeners": lambda name: listeners_page.text(name, read_facts(data / "listeners.json"), figures),
        "people": lambda name: listeners_page.people(name, data / "reference"),
        "paper": lambda name: (
            claims_page.listed() if name == "claims" else tables_page.notes(tables_page.read(data)[name])
        ),
        "speed": lambda name: speed_page.text(name, data / "bench", figures),
        "tables": lambda name: tables_page.text(name, runs, tables_page.read(data), figures),
    }


def _problems(page: Path, text: str, values: Mapping[str, str], made: Mapping[str, Any]) -> Iterator[str]:
    """What is not known, or has no place, one sentence each."""
    kinds = {kind for kind, _ in MARK.findall(text)}
    if page.stem in made and page.stem not in kinds and page.parent.name != "api":  # whose rooms have the names of pages
        yield f"{page}: has no line '<!-- {page.stem} -->', so what the build makes has no place; check the page out again"
    for number, line in enumerate(text.splitlines(), start=1):
        for name in NUMBER.findall(line):
            if name not in values:
                yield f"{page}, line {number}: no number named '{name}' in numbers.json"
        for kind, _ in MARK.findall(line):
            if kind not in made:
                yield f"{page}, line {number}: nothing makes '{kind}'; there are: {', '.join(made)}"


def fill(folder: Path, values: Mapping[str, str], made: Mapping[str, Callable[[str], str]]) -> None:
    """Put numbers and words by name, and what is :func:`makers`' to make, into the pages below a folder, in place.

    Raises
    ------
    DsamlError
        Names every page, line and name that is not known, before anything is written; and a page without the mark of its name.
    """
    pages = {page: page.read_text(encoding="utf-8") for page in sorted(folder.rglob("*.md"))}
    problems = [
        p for page, text in pages.items() for p in _problems(page.relative_to(folder.parent), text, values, made)
    ]
    if problems:
        raise DsamlError("\n".join(problems))
    for page, text in pages.items():
        text = NUMBER.sub(lambda match: values[match[1]], text)
        page.write_text(MARK.sub(lambda match: made[match[1]](match[2]), text), encoding="utf-8")
