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


def number(value: float, digits: int = 3, sign: str = "") -> str:
    """With a proper minus; with ``sign`` "+" every number has one."""
    return f"{value:{sign}.{digits}f}".replace("-", "−")


def interval(cell: Mapping[str, Any], key: str = "mean", digits: int = 3, sign: str = "", scale: float = 1) -> str:
    """The number called ``key``, and below it its 95 % interval if it has one."""
    if cell[key] is None:
        return "none"
    value, *ends = (number(scale * cell[name], digits, sign) for name in (key, "low", "high") if name in cell)
    return f"{value}<br><small>[{ends[0]},\u00a0{ends[1]}]</small>" if ends else value


def difference(cell: Mapping[str, Any]) -> str:
    """A paired difference, and whether it lacks the seeds' share of the uncertainty."""
    return interval(cell, sign="+") + ("<br><small>seeds: unknown</small>" if cell["seeds"] == "unknown" else "")
