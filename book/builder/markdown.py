"""What several pages are made of: tables, pictures, folded text, and cells with an interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot
from matplotlib.figure import Figure


def table(header: Sequence[str], rows: Sequence[Sequence[object]], numbers: bool = True) -> str:
    """A table; the first column to the left, the others to the right if they hold ``numbers``."""
    lines = [list(header), ["---", *["---:" if numbers else ":---"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def save(figure: Figure, file: Path, **settings: Any) -> None:
    """Write a figure and close it; the same figure gives the same bytes, so that an unchanged page is not rendered again."""
    with pyplot.rc_context({"svg.hashsalt": file.name}):
        figure.savefig(file, metadata={"Date": None}, **settings)
    pyplot.close(figure)


def picture(figure: Figure, file: Path, alt: str, see: str) -> str:
    """Save a figure in a folder beside the page that shows it; the text that puts it there, and below it what to ``see``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save(figure, file, facecolor="white", bbox_inches="tight")
    return f"```{{image}} {file.parent.name}/{file.name}\n:alt: {alt}\n:width: 100%\n```\n\n*{see}*"


def folded(title: str, text: str) -> str:
    """Text that a reader opens."""
    return f":::{{dropdown}} {title}\n{text}\n:::"


def interval(cell: Mapping[str, float], sign: str = "") -> str:
    """Mean, and below it the 95 % interval; with ``sign`` "+" every number has one."""
    mean, low, high = (f"{cell[key]:{sign}.3f}".replace("-", "−") for key in ("mean", "low", "high"))
    return f"{mean}<br><small>[{low},\u00a0{high}]</small>"


def difference(cell: Mapping[str, Any]) -> str:
    """A paired difference, and whether it lacks the seeds' share of the uncertainty."""
    return interval(cell, "+") + ("<br><small>seeds: unknown</small>" if cell["seeds"] == "unknown" else "")
