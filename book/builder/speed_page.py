"""The page of measurements: tables from ``data/bench/*.json``, and the picture of how time grows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from book.builder import markdown
from dsaml.config import DIMENSIONS
from dsaml.plots.style import PALETTE

ADAPT = {"all": "everything", "no-adapter": "all but the adapter", "head": "the head only"}
SIZES = ("demo", "paper")
Measured = Mapping[str, Any]  # one file of data/bench


def number(value: float) -> str:
    """Two or three significant digits, no exponent for everyday sizes."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.001 else f"{value:.1e}"


def service(engine: Measured, listeners: int = 1_000_000) -> dict[str, dict[str, float]]:
    """A streaming service on paper: what the measured figures mean for very many listeners.

    For each size of model and each choice of adapted parameters: milliseconds to adapt one listener and to predict one song of
    30 s for them, kilobytes of their weights, terabytes of everybody's, days of one such machine to adapt everybody once.
    """
    rows = {}
    for size in SIZES:
        for adapt, row in engine[size]["one_listener"].items():
            figures = {
                "adapt_milliseconds": 1e3 * row["adapt_seconds"],
                "predict_milliseconds": 1e3 * row["predict_seconds"],
                "kilobytes_each": 1e3 * row["megabytes"],
                "terabytes": row["megabytes"] * listeners / 1e6,
                "machine_days": row["adapt_seconds"] * listeners / 86_400,
            }
            rows[f"{size}, {adapt}"] = {key: float(f"{value:.2g}") for key, value in figures.items()}
    return rows


def growth(scale: Measured) -> Figure:
    """Seconds against each size, both axes logarithmic."""
    curves = scale["curves"]
    figure, axes = plt.subplots(3, 3, figsize=(9, 7.5), layout="constrained")
    for axis, (name, curve) in zip(axes.flat, curves.items(), strict=False):
        axis.loglog(curve["sizes"], curve["seconds"], "o-", color=PALETTE[0])
        axis.set(title=f"{name.replace('_', ' ')}\nexponent {curve['slopes']['seconds']:.2f}", ylabel="seconds")
        axis.set_xticks(curve["sizes"], curve["sizes"])
        axis.minorticks_off()
    for axis in axes.flat[len(curves) :]:
        axis.set_visible(False)
    return figure


def _compared(row: Mapping[str, float]) -> list[str]:
    return [number(row["released_seconds"]), number(row["seconds"]), number(row["ratio"])]


def _released(measured: Measured) -> str:
    rows = []
    for dim, row in measured["released"].items():
        rows.append([f"D = {dim}, whole task", *_compared(row)])
        if "stacked" in row:
            rows.append([f"D = {dim}, four tasks at once, each", *_compared(row["stacked"])])
        rows.append([f"D = {dim}, adaptation alone", *_compared(row["adaptation"])])
        peaks = row["released_peak_gb"], row["peak_gb"], row["released_peak_gb"] / row["peak_gb"]
        rows.append([f"D = {dim}, peak memory (GB)", *map(number, peaks)])
    return markdown.table(("same work", "released (s)", "here (s)", "ratio"), rows)


def _alone(measured: Measured) -> str:
    rows = []
    for dim, row in measured["released"].items():
        all_adapted = row["adaptation"]
        rows += [
            [f"D = {dim}, one listener, everything adapted", number(all_adapted["seconds"])],
            [f"D = {dim}, one listener, the head adapted", number(row["head_seconds"])],
            [f"D = {dim}, a song of 4 minutes predicted, features cached", number(row["song_seconds"])],
            [f"D = {dim}, whole task: GFLOP per s", number(row["gflops"])],
        ]
    rows.append(["largest difference of both sides' gradients, of the largest", number(measured["gradient_difference"])])
    rows.append(["log-mels of 45 s, one core", number(measured["log_mel_seconds"])])
    rows.append(["matrix products of this machine: GFLOP per s", number(measured["matmul_gflops"])])
    return markdown.table(("here", "s, or as said"), rows)


def _shortcuts(measured: Measured) -> str:
    rows = [[name, number(row["seconds"]), number(row["gain"])] for name, row in measured["shortcuts"].items()]
    return markdown.table(("shortcut", "s for a task", "gain"), rows)


def _gpu(gpu: Measured) -> str:
    rows = [
        [f"{tasks} tasks at once", number(row["seconds_per_task"]), f"peak {number(row['peak_gb'])} GB"]
        for tasks, row in gpu["tasks_at_once"].items()
    ]
    rows += [
        [f"{name}, {gpu['tasks']} at once", number(row["seconds_per_task"]), f"gradient {row['gradient_difference']:.1e} off"]
        for name, row in gpu["precisions"].items()
    ]
    for what, measured in (("recorded as one CUDA graph", gpu["recorded"]), ("torch.compile", gpu["compiled"])):
        rows += [
            [f"{what}, {name}", *(["", row["failed"]] if "failed" in row else [number(row["seconds_per_task"]), ""])]
            for name, row in measured.items()
        ]
    rows += [
        [f"{name}: {row['steps']} steps trained", f"{number(row['seconds'])} in all", f"CCC {row['validation_ccc']:.3f}"]
        for name, row in gpu["trainings"].items()
    ]
    for name, measured in (("without a graph", gpu["precisions"]), ("as recorded graphs", gpu["recorded"])):
        if paces := [row["seconds_per_task"] for row in measured.values() if "failed" not in row]:
            minutes = min(paces) * gpu["tasks_per_step"] * gpu["steps"] / 60
            rows.append([f"{gpu['steps']} steps of {gpu['tasks_per_step']} tasks {name}", f"{minutes:.0f} minutes", "computed"])
    table = markdown.table((gpu["machine"]["gpu"], "s for a task", ""), rows)
    return f"{table}\n\n{gpu['note']}" if "note" in gpu else table


def _limits(engine: Measured) -> str:
    keys = {
        "peak_gigabytes_of_one_task": "peak memory of a task (GB)",
        "peak_gigabytes_with_dropout": "... with dropout and batch statistics",
        "peak_gigabytes_trimmed": "... and freed memory given back",
        "songs_per_second": "songs predicted per s",
    }
    rows = []
    for size in SIZES:
        row = engine[size]
        rate = f"{100 * row['fraction_of_matmul_rate']:.0f} %"
        rows.append([f"{size}, D = {row['dim']}", number(row["gflop_per_task"]), rate, *(number(row[key]) for key in keys)])
    return markdown.table(("size", "GFLOP per task", "of the matrix-product rate", *keys.values()), rows)


def _listener(engine: Measured) -> str:
    rows = [
        [f"{size}, D = {engine[size]['dim']}", ADAPT[adapt], engine[size]["inner_steps"]]
        + [number(row[key]) for key in ("adapt_seconds", "predict_seconds", "megabytes")]
        for size in SIZES
        for adapt, row in engine[size]["one_listener"].items()
    ]
    header = ("size", "adapted", "steps", "adapt (s)", "predict a song (s)", "weights of their own (MB)")
    return markdown.table(header, rows)


def _quality(quality: Measured) -> str:
    def cells(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
        return ["{mean:.3f} [{low:.3f}, {high:.3f}]".format(**scores[d]) for d in DIMENSIONS]

    rows = [["nothing", 0, "", "", *cells(quality["before"])]]
    rows += [
        [ADAPT[adapt], quality["inner_steps"], row["inner_lr"], number(row["seconds_per_listener"]), *cells(row["ccc"])]
        for adapt, row in quality["rows"].items()
    ]
    header = ("adapted", "steps", "rate", "s per listener, prediction included", "CCC arousal", "CCC valence")
    return markdown.table(header, rows)


def _models(engine: Measured) -> str:
    rows = [
        [name, f"{row['parameters']:,}", number(1e3 * row["forward_seconds"])] for name, row in engine["models"].items()
    ]
    return markdown.table(("model", "parameters", "ms for a song of 30 s, one core"), rows)


def _growth(scale: Measured) -> str:
    rows = [
        [
            name.replace("_", " "),
            ", ".join(map(str, curve["sizes"])),
            ", ".join(map(number, curve["seconds"])),
            f"{curve['slopes']['seconds']:.2f}",
            ", ".join(map(number, curve.get("gigabytes", ()))),
        ]
        for name, curve in scale["curves"].items()
    ]
    return markdown.table(("what grows", "sizes", "seconds", "exponent", "peak memory (GB)"), rows)


def _service(engine: Measured) -> str:
    header = ["model, adapted", "adapt one (ms)", "predict a song (ms)", "kB each"]
    header += ["TB for a million", "machine-days for a million"]
    return markdown.table(header, [[name, *map(number, row.values())] for name, row in service(engine).items()])


def _colab(measured: Measured) -> str:
    """Seconds of every notebook in fresh environments: the set-up, and all other cells."""
    versions, limits = measured["seconds"], measured["limits"]

    def cell(row: Mapping[str, float] | None) -> str:
        return f"{number(row['setup'])} + {number(row['cells'])}" if row else "not measured"

    rows = [
        [name, *(cell(ran.get(name)) for ran in versions.values()), f"{limit}"]
        for name, limit in sorted(limits.items())
    ]
    killed = [number(ran["killed"]["setup"]) if "killed" in ran else "not measured" for ran in versions.values()]
    rows.append(["a set-up killed four times, then run to its end", *killed, ""])
    header = ["notebook", *(f"Python {version}: set-up + cells (s)" for version in versions), "cells at most"]
    loads = [row["beside"] for ran in versions.values() for row in ran.values() if "beside" in row]
    cores = measured["machine"]["cores"]
    said = f"On {cores} cores, with {min(loads):g} to {max(loads):g} other processes that wanted one."
    return f"{markdown.table(header, rows)}\n\n{said}"


TABLES = {
    "colab": ("colab", _colab),
    "released": ("released", _released),
    "alone": ("released", _alone),
    "shortcuts": ("released", _shortcuts),
    "limits": ("engine", _limits),
    "listener": ("engine", _listener),
    "quality": ("quality", _quality),
    "models": ("engine", _models),
    "gpu": ("gpu", _gpu),
    "growth": ("scale", _growth),
    "service": ("engine", _service),
}
"""Name of a table: the file that it is made of, and what makes it."""


def text(name: str, data: Path, figures: Path) -> str:
    """One of ``TABLES``; where its measurement is not there, which command makes it."""
    measurement, make = TABLES[name]
    file = data / f"{measurement}.json"
    if not file.is_file():
        option = {"engine": "", "released": " --recipe released"}.get(measurement, f" --{measurement}")
        command = "make colab" if measurement == "colab" else f"python -m dsaml bench{option}"
        return f"*Not measured yet: run `{command}`.*"
    measured = json.loads(file.read_text(encoding="utf-8"))
    if name != "growth":
        return make(measured)
    what = ", ".join(curve.replace("_", " ") for curve in measured["curves"])
    alt = f"Small panels of seconds against size on logarithmic axes, for {what}."
    see = "A straight line that rises by one decade in one decade is cost in proportion to size; a flat one costs nothing more."
    return f"{make(measured)}\n\n{markdown.picture(growth(measured), figures / 'growth.svg', alt, see)}"
