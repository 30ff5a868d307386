"""The pages of tables and claims, from result files: ``tables-*.json`` and ``claims-*.json`` of a profile.

A cell without a number says why there is none, and which command would fill it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dsaml.bench.page import markdown
from dsaml.results import read_result, stamp_line

MARK = re.compile(r"<!-- (tables|claims): ([a-z0-9-]+) -->")
DATASETS = {"deam": "DEAM", "pmemo": "PMEmo"}
DIMENSIONS = ("arousal", "valence")
VERDICTS = {
    "holds": "**holds**",
    "does not hold": "**does not hold**",
    "not decided": "not decided",
    "not run": "not run",
}


def interval(cell: Mapping[str, float]) -> str:
    """Mean and 95 % interval."""
    return f"{cell['mean']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}]"


def difference(cell: Mapping[str, float] | None) -> str:
    """A paired difference, or why there is none."""
    return "not run" if cell is None else f"{cell['mean']:+.3f} [{cell['low']:+.3f}, {cell['high']:+.3f}]"


def paper_cells(published: Mapping[str, Any], row: str, dataset: str) -> str:
    """The paper's CCC and RMSE of a row, arousal / valence."""
    for entry in published["rows"]:
        name = f"{entry['model']} ({entry['note']})" if entry.get("note") else entry["model"]
        if name == row and dataset in entry:
            cells = entry[dataset]
            return "; ".join(" / ".join(f"{cells[d][m]:.3f}" for d in DIMENSIONS) for m in ("ccc", "rmse"))
    return "not in the paper"


def _our_cells(block: Mapping[str, Any], name: str, seeds: int) -> list[str]:
    if name not in block["rows"]:
        return [f"not run here: `reproduce {block['table']}`", "", "", ""]
    row = block["rows"][name]
    trained, had = name in (*block["paper_rows"].values(), *block["extra"]), block["seeds"][name]
    note = f" ({had} of {seeds} seeds)" if trained and had < seeds else ""
    return [interval(row[d]["ccc"]) + note for d in DIMENSIONS] + [f"{row[d]['rmse']['mean']:.3f}" for d in DIMENSIONS]


def table(block: Mapping[str, Any], published: Mapping[str, Any], seeds: int) -> str:
    """One table: the paper's rows beside ours, then the rows that the paper lacks."""
    datasets = [name for name in DATASETS if any(name in row for row in published["rows"])]
    header = ["row", *(f"paper, {DATASETS[d]}: CCC a / v; RMSE a / v" for d in datasets)]
    header += ["here: CCC arousal", "CCC valence", "RMSE arousal", "RMSE valence"]
    lines, shown = [], set()
    for theirs, ours in block["paper_rows"].items():
        label = theirs if theirs == ours else f"{theirs} = {ours}"
        lines.append([label, *(paper_cells(published, theirs, d) for d in datasets), *_our_cells(block, ours, seeds)])
        shown.add(ours)
    more = [name for name in block["rows"] if name not in shown]
    more += [name for name in block["extra"] if name not in block["rows"]]
    lines += [[name, *("not in the paper" for _ in datasets), *_our_cells(block, name, seeds)] for name in more]
    return markdown(header, lines)


def _against(block: Mapping[str, Any]) -> str:
    rows = [
        [name, *(difference(cells[d]) for d in DIMENSIONS), *(f"{cells[d]['p_holm']:.3f}" for d in DIMENSIONS)]
        + [f"{cells[d]['dz']:+.2f}" for d in DIMENSIONS]
        for name, cells in block["paired"].items()
    ]
    header = ("minus", "arousal", "valence", "p arousal (Holm)", "p valence (Holm)", "dz arousal", "dz valence")
    return markdown(header, rows) if rows else ""


def tables_text(name: str, results: Path, published: Mapping[str, Any]) -> str:
    """What stands under a heading of the tables page: one block, for each data set at hand."""
    parts = []
    found = sorted(results.glob("tables-*.json"))
    for file in found:
        document = read_result(file)
        block, seeds = document["blocks"][name], len(document["provenance"]["seeds"])
        real = "real data" if document["provenance"]["real"] else "synthetic data"
        ours = block["paper_rows"]["Ours"]
        parts += [
            f"**{file.stem.removeprefix('tables-')}** ({real}), protocol `{block['protocol']}`, {seeds} training seed(s), "
            f"{block['annotators']} annotator(s), {block['songs']} songs. Intervals resample {block['unit']}.",
            table(block, published[block["table"]], seeds),
        ]
        if block["paired"]:
            parts += [f"*{ours}* minus each other row, paired CCC differences:", _against(block)]
        parts.append(f"<small>{stamp_line(document)}</small>")
    have = {file.stem.removeprefix("tables-") for file in found}
    personal = not name.startswith(("table1", "table3"))
    for key, label in DATASETS.items():
        if key in have or (key == "pmemo" and personal):
            continue
        command = f"python -m dsaml reproduce {name.split('-')[0]} --profile paper --dataset {key} --root {label}"
        parts.append(f"On {label}: not run: needs {label}. `{command}`")
    if personal and "pmemo" not in have:
        parts.append("On PMEmo: cannot be run: it publishes no labels of single annotators.")
    return "\n\n".join(parts)


def claims_text(dataset: str, results: Path) -> str:
    """The table of claims on one data set."""
    file = results / f"claims-{dataset}.json"
    if not file.is_file():
        return f"*Not run: `python -m dsaml reproduce all --dataset {dataset}` writes {file.name}.*"
    document = read_result(file)
    rows = []
    for claim in document["claims"]:
        ours = "<br>".join(
            f"{c['better']} − {c['worse']}: "
            + (f"{difference(c['arousal'])}, {difference(c['valence'])}" if c["arousal"] else "not run")
            for c in claim["comparisons"]
        )
        evidence = ours or claim["needs"]
        command = f"`{claim['command']}`"
        rows.append([claim["id"], claim["text"], claim["paper"], evidence, VERDICTS[claim["verdict"]], command])
    header = ("", "claim", "the paper's evidence", "ours: paired CCC difference, arousal, valence", "verdict", "again")
    return markdown(header, rows).replace("---:", ":---") + f"\n\n<small>{stamp_line(document)}</small>"


def write_page(page: Path, results: Path, data: Path) -> None:
    """Fill the marks of a page, in place."""
    published = json.loads((data / "paper_tables.json").read_text(encoding="utf-8"))
    makers: dict[str, Callable[[str], str]] = {
        "tables": lambda name: tables_text(name, results, published),
        "claims": lambda name: claims_text(name, results),
    }
    text = page.read_text(encoding="utf-8")
    page.write_text(MARK.sub(lambda match: makers[match[1]](match[2]), text), encoding="utf-8")
