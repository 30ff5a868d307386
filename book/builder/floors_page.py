"""The page of floors: trivial predictors beside the paper's Tables 1 and 2, from ``data/floors.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsaml.config import DIMENSIONS, METRICS
from dsaml.errors import DsamlError
from dsaml.evaluate.floors import label, read_facts

DATA = Path(__file__).resolve().parents[2] / "data"
MARK = "<!-- floors -->"
DATASET_TITLES = {"deam": "DEAM, labels in [-1, 1]", "pmemo": "PMEmo, labels in [0, 1]"}
HEADER = "| | arousal CCC | PCC | RMSE | valence CCC | PCC | RMSE |\n|---|---:|---:|---:|---:|---:|---:|"


def _cells(scores: Mapping[str, Mapping[str, float]], against: Mapping[str, Mapping[str, float]] | None = None) -> str:
    cells = []
    for dimension in DIMENSIONS:
        for metric in METRICS:
            value = scores[dimension][metric]
            lost = against and metric == "rmse" and not beats(value, against[dimension]["rmse"])
            cells.append(f"{value:.3f}" + (" ✗" if lost else ""))
    return " | ".join(cells)


def beats(rmse: float, floor: float) -> bool:
    """Whether an RMSE that was published with three decimals is below a floor's."""
    return round(rmse, 3) < round(floor, 3)


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['model']} ({row['note']})" if row.get("note") else row["model"]


def not_better(rows: list[Mapping[str, Any]], dataset: str, floor: Mapping[str, Mapping[str, float]]) -> str:
    """A sentence that names the published rows whose RMSE is not below the floor's."""
    parts = []
    for dimension in DIMENSIONS:
        level = floor[dimension]["rmse"]
        lost = [f"{_name(r)} ({r[dataset][dimension]['rmse']:.3f})" for r in rows if dataset in r]
        lost = [text for text, r in zip(lost, rows, strict=True) if not beats(r[dataset][dimension]["rmse"], level)]
        parts.append(f"in {dimension} (constant: {level:.3f}) {', '.join(lost) if lost else 'none'}")
    return f"Published rows whose RMSE does not beat a constant: {'; '.join(parts)}."


def markdown(facts: Mapping[str, Any], tables: Mapping[str, Any]) -> str:
    """The floors beside the paper's Tables 1 and 2.

    Parameters
    ----------
    facts : mapping
        Content of ``data/floors.json``.
    tables : mapping
        Content of ``data/paper_tables.json``.
    """
    out = []
    for dataset in ("deam", "pmemo"):
        floors, counts = facts[dataset]["test"], facts[dataset]["counts"]["test"]
        rows = tables["table1"]["rows"]
        out += [f"## Table 1 on {DATASET_TITLES[dataset]}", "", HEADER]
        out += [f"| {_name(row)}, as published | {_cells(row[dataset], floors['constant'])} |" for row in rows]
        out += [f"| *{label(name, counts)}* | {_cells(scores)} |" for name, scores in floors.items()]
        out += ["", f"{counts['songs']} test songs. ✗: not below the constant's RMSE.", ""]
        out += [not_better(rows, dataset, floors["constant"]), ""]
    own = {p: facts["deam"][f"test {p}"] for p in ("prefix", "cross-song") if f"test {p}" in facts["deam"]}
    out += ["## Table 2: each annotator's own labels, DEAM", "", HEADER]
    constant = own["cross-song"]["constant"] if "cross-song" in own else None
    out += [f"| {_name(row)}, as published | {_cells(row['deam'], constant)} |" for row in tables["table2"]["rows"]]
    for protocol, floors in own.items():
        counts = facts["deam"]["counts"][f"test {protocol}"]
        out += [f"| *{protocol}: {label(n, counts)}* | {_cells(s)} |" for n, s in floors.items()]
    if constant:
        out += ["", not_better(tables["table2"]["rows"], "deam", constant), ""]
    else:
        floors, counts = facts["deam"]["test"], facts["deam"]["counts"]["test"]
        out += [f"| *averaged labels: {label(n, counts)}* | {_cells(s)} |" for n, s in floors.items()]
        out += [
            "",
            "DEAM's files of every annotator's own labels were not at hand when this page was made, so its floors are "
            "on *averaged* labels. RMSE is convex: on the labels of the annotators behind an average, a constant's "
            "mean RMSE is never lower than on the average. Whether a row of Table 2 beats a constant stays open here.",
            "",
        ]
    return "\n".join(out)


def write_page(path: Path, data: Path = DATA) -> None:
    """Put the tables in the place of the line ``<!-- floors -->`` of a page.

    Raises
    ------
    DsamlError
        If the page has no such line, or a facts file cannot be read.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if MARK not in text:
        raise DsamlError(f"{path}: has no line '{MARK}', so the floors have no place; check the page out again")
    tables = markdown(read_facts(data / "floors.json"), read_facts(data / "paper_tables.json"))
    path.write_text(text.replace(MARK, tables), encoding="utf-8")
