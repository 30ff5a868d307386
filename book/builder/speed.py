"""The page of measurements: tables from ``data/bench/*.json``, put where the page marks them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MARK = re.compile(r"<!-- bench: ([a-z-]+) -->")
ADAPT = {"all": "everything", "no-adapter": "all but the adapter", "head": "the head only"}


def service(engine: dict[str, Any], listeners: int = 1_000_000) -> dict[str, dict[str, float]]:
    """A streaming service on paper: what the measured figures mean for very many listeners.

    Parameters
    ----------
    engine : dict
        ``data/bench/engine.json``.
    listeners : int

    Returns
    -------
    dict
        For each size of model and each choice of adapted parameters: terabytes of personal weights, days of one such machine
        to adapt everybody once, milliseconds to adapt one listener and to predict one song of 30 s for them.
    """
    rows = {}
    for size in ("demo", "paper"):
        for adapt, row in engine[size]["one_listener"].items():
            rows[f"{size}, {adapt}"] = {
                "adapt_milliseconds": 1e3 * row["adapt_seconds"],
                "predict_milliseconds": 1e3 * row["predict_seconds"],
                "kilobytes_each": 1e3 * row["megabytes"],
                "terabytes": row["megabytes"] * listeners / 1e6,
                "machine_days": row["adapt_seconds"] * listeners / 86_400,
            }
    return {name: {key: _significant(value) for key, value in row.items()} for name, row in rows.items()}


def _significant(value: float, digits: int = 2) -> float:
    return round(value, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0.0


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; the first column to the left, numbers to the right."""
    lines = [list(header), ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def number(value: float) -> str:
    """Two or three significant digits, no exponent for everyday sizes."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.001 else f"{value:.1e}"


def _engine(engine: dict[str, Any]) -> str:
    rows = []
    for size in ("demo", "paper"):
        for adapt, row in engine[size]["meta_training"].items():
            cells = (
                row["tasks_per_second"],
                row["baseline_tasks_per_second"],
                row["ratio"],
                row["gradient_difference"],
            )
            rows.append([f"{size}, D = {engine[size]['dim']}", ADAPT[adapt], *map(number, cells)])
    return markdown(("size", "adapted", "tasks/s here", "tasks/s baseline", "ratio", "difference of gradients"), rows)


def _limits(engine: dict[str, Any]) -> str:
    rows = [
        [
            f"{size}, D = {engine[size]['dim']}",
            number(engine[size]["gflop_per_task"]),
            f"{100 * engine[size]['fraction_of_matmul_rate']:.0f} %",
            number(engine[size]["peak_gigabytes_of_one_task"]),
            number(engine[size]["peak_gigabytes_with_dropout"]),
            number(engine[size]["peak_gigabytes_trimmed"]),
            number(engine[size]["songs_per_second"]),
        ]
        for size in ("demo", "paper")
    ]
    return markdown(
        (
            "size",
            "GFLOP per task",
            "of the matrix-product rate",
            "peak memory of a task (GB)",
            "... with dropout and batch statistics",
            "... and freed memory given back",
            "songs predicted per s",
        ),
        rows,
    )


def _listener(engine: dict[str, Any]) -> str:
    rows = [
        [f"{size}, D = {engine[size]['dim']}", ADAPT[adapt], engine[size]["inner_steps"]]
        + [number(row[key]) for key in ("adapt_seconds", "predict_seconds", "megabytes")]
        for size in ("demo", "paper")
        for adapt, row in engine[size]["one_listener"].items()
    ]
    return markdown(("size", "adapted", "steps", "adapt (s)", "predict a song (s)", "weights of their own (MB)"), rows)


def _quality(quality: dict[str, Any]) -> str:
    def cells(scores: dict[str, dict[str, float]]) -> list[str]:
        return ["{mean:.3f} [{low:.3f}, {high:.3f}]".format(**scores[d]) for d in ("arousal", "valence")]

    rows = [["nothing", 0, "", "", *cells(quality["before"])]]
    rows += [
        [ADAPT[adapt], quality["inner_steps"], row["inner_lr"], number(row["seconds_per_listener"]), *cells(row["ccc"])]
        for adapt, row in quality["rows"].items()
    ]
    header = ("adapted", "steps", "rate", "s per listener, prediction included", "CCC arousal", "CCC valence")
    return markdown(header, rows)


def _models(engine: dict[str, Any]) -> str:
    rows = [
        [name, f"{row['parameters']:,}", number(1e3 * row["forward_seconds"])] for name, row in engine["models"].items()
    ]
    return markdown(("model", "parameters", "ms for a song of 30 s, one core"), rows)


def _growth(scale: dict[str, Any]) -> str:
    rows = [
        [
            name.replace("_", " "),
            ", ".join(map(str, curve["sizes"])),
            ", ".join(map(number, curve["seconds"])),
            f"{curve['slopes']['seconds']:.2f}",
            ", ".join(map(number, curve["gigabytes"])) if "gigabytes" in curve else "",
        ]
        for name, curve in scale["curves"].items()
    ]
    return markdown(("what grows", "sizes", "seconds", "exponent", "peak memory (GB)"), rows)


def _service(engine: dict[str, Any]) -> str:
    keys = ("adapt_milliseconds", "predict_milliseconds", "kilobytes_each", "terabytes", "machine_days")
    rows = [[name, *(number(row[key]) for key in keys)] for name, row in service(engine).items()]
    return markdown(
        (
            "model, adapted",
            "adapt one (ms)",
            "predict a song (ms)",
            "kB each",
            "TB for a million",
            "machine-days for a million",
        ),
        rows,
    )


def write_page(page: Path, data: Path) -> None:
    """Put the measured tables into ``page``, in place.

    A table whose measurement is not there says which command makes it.
    """
    found = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in data.glob("*.json")}
    sources = {
        "engine": ("engine", _engine),
        "limits": ("engine", _limits),
        "listener": ("engine", _listener),
        "quality": ("quality", _quality),
        "models": ("engine", _models),
        "growth": ("scale", _growth),
        "service": ("engine", _service),
    }

    def table(match: re.Match[str]) -> str:
        file, make = sources[match[1]]
        if file not in found:
            option = "" if file == "engine" else f" --{file}"
            return f"*Not measured yet: run `python -m dsaml bench{option}`.*"
        return make(found[file])

    page.write_text(MARK.sub(table, page.read_text(encoding="utf-8")), encoding="utf-8")
