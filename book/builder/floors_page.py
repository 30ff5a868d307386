"""The page of floors: trivial predictors beside the paper's Tables 1 and 2, from ``data/floors.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from book.builder import markdown
from book.builder.tables_page import row_name
from dsaml.config import DIMENSIONS, METRICS
from dsaml.evaluate.floors import label

DATASET_TITLES = {"deam": "DEAM, labels in [-1, 1]", "pmemo": "PMEmo, labels in [0, 1]"}
PEOPLE = {
    "vgmidi": "VGMIDI, labels in [-1, 1]",
    "vgmidi-2": "VGMIDI under its second split",
}
HEADER = ("", "arousal CCC", "PCC", "RMSE", "valence CCC", "PCC", "RMSE")
AVERAGED_ONLY = """\
DEAM's files of every annotator's own labels were not at hand when this page was made, so its floors are on *averaged* labels. \
RMSE is convex: on the labels of the annotators behind an average, a constant's mean RMSE is never lower than on the average. \
Whether a row of Table 2 beats a constant stays open here."""
Scores = Mapping[str, Mapping[str, float]]


def beats(rmse: float, floor: float) -> bool:
    """Whether an RMSE that was published with three decimals is below a floor's."""
    return round(rmse, 3) < round(floor, 3)


def _cells(scores: Scores, constant: Scores | None = None) -> list[str]:
    """The six numbers of a row; ✗ at an RMSE that is not below the constant's."""
    cells = []
    for d in DIMENSIONS:
        lost = constant and not beats(scores[d]["rmse"], constant[d]["rmse"])
        cells += [f"{scores[d][metric]:.3f}" for metric in METRICS]
        cells[-1] += " ✗" if lost else ""  # RMSE is the last of METRICS
    return cells


def _published(rows: Sequence[Mapping[str, Any]], dataset: str, constant: Scores | None) -> list[list[str]]:
    return [[f"{row_name(row)}, as published", *_cells(row[dataset], constant)] for row in rows]


def _floors(floors: Mapping[str, Scores], counts: Mapping[str, int], before: str = "") -> list[list[str]]:
    return [[f"*{before}{label(name, counts)}*", *_cells(scores)] for name, scores in floors.items()]


def not_better(rows: Sequence[Mapping[str, Any]], dataset: str, constant: Scores) -> str:
    """A sentence that names the published rows whose RMSE is not below the constant's."""
    parts = []
    for dimension in DIMENSIONS:
        level = constant[dimension]["rmse"]
        scores = {row_name(row): row[dataset][dimension]["rmse"] for row in rows}
        lost = [f"{name} ({rmse:.3f})" for name, rmse in scores.items() if not beats(rmse, level)]
        parts.append(f"in {dimension} (constant: {level:.3f}) {', '.join(lost) or 'none'}")
    return f"Published rows whose RMSE does not beat a constant: {'; '.join(parts)}."


def text(facts: Mapping[str, Any], published: Mapping[str, Any]) -> str:
    """The floors (``data/floors.json``) beside the paper's Tables 1 and 2."""
    out = []
    for dataset, title in DATASET_TITLES.items():
        floors, counts = facts[dataset]["test"], facts[dataset]["counts"]["test"]
        rows = published["table1"]["rows"]
        lines = _published(rows, dataset, floors["constant"]) + _floors(floors, counts)
        out += [f"## Table 1 on {title}", markdown.table(HEADER, lines)]
        out += [f"{counts['songs']} test songs. ✗: not below the constant's RMSE."]
        out += [not_better(rows, dataset, floors["constant"])]
    deam, rows = facts["deam"], published["table2"]["rows"]
    own = {p: deam[f"test {p}"] for p in ("prefix", "cross-song") if f"test {p}" in deam}
    constant = own["cross-song"]["constant"] if "cross-song" in own else None
    lines = _published(rows, "deam", constant)
    for protocol, floors in own.items():
        lines += _floors(floors, deam["counts"][f"test {protocol}"], f"{protocol}: ")
    if not constant:
        lines += _floors(deam["test"], deam["counts"]["test"], "averaged labels: ")
    out += ["## Table 2: each annotator's own labels, DEAM", markdown.table(HEADER, lines)]
    out += [not_better(rows, "deam", constant) if constant else AVERAGED_ONLY]
    for dataset, title in PEOPLE.items():
        if dataset in facts:
            out += [f"## Real people's own labels: {title}", _people(facts[dataset])]
    return "\n\n".join(out)


def _people(facts: Mapping[str, Any]) -> str:
    """The floors of a data set that the paper does not have: averaged labels, and both personal protocols."""
    lines, told = [], []
    for key in facts["counts"]:
        protocol = key.removeprefix("test").strip() or "averaged labels"
        counts = facts["counts"][key]
        lines += _floors(facts[key], counts, f"{protocol}: ")
        unit = (
            f"{counts['songs']} songs" if key == "test" else f"{counts['annotators']} people, {counts['tracks']} tracks"
        )
        told.append(f"{protocol}: {unit}")
    return f"{markdown.table(HEADER, lines)}\n\n{'; '.join(told)}."
