"""The page of tables, from the result files ``tables-*.json`` of all runs and the paper's own (``data/paper_tables.json``).

A cell without a number says why there is none, and which command would fill it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from book.builder import markdown, reference
from dsaml.config import DIMENSIONS, METRICS
from dsaml.evaluate.bootstrap import p_text
from dsaml.evaluate.floors import AVERAGE_CURVE_SPREAD, OWN_CURVE
from dsaml.experiment.results import stamp_line
from dsaml.plots.curves import forest

DATASETS = {"deam": "DEAM", "pmemo": "PMEmo"}  # on which the paper has numbers
SLASH = "\u00a0/\u00a0"  # between arousal and valence
SEE = "Compare each row with the floors among them first, and only then with its neighbours."


def read(data: Path) -> dict[str, Any]:
    """The paper's tables, "table1" to "table4"; their notes say where they disagree with each other or with the text about them."""
    return json.loads((data / "paper_tables.json").read_text(encoding="utf-8"))


def notes(table: Mapping[str, Any]) -> str:
    """What to know when reading a table of the paper."""
    return "\n".join(f"- {note}" for note in table["notes"])


def row_name(row: Mapping[str, Any]) -> str:
    """A row's model, and its note if it has one."""
    return f"{row['model']} ({row['note']})" if row.get("note") else row["model"]


def paper_cells(published: Mapping[str, Any], row: str, dataset: str) -> str:
    """The paper's CCC, PCC and RMSE of a row, arousal / valence."""
    for entry in published["rows"]:
        if row_name(entry) == row and dataset in entry:
            return "<br>".join(SLASH.join(f"{entry[dataset][d][m]:.3f}" for d in DIMENSIONS) for m in METRICS)
    return "not in the paper"


def _our_cells(block: Mapping[str, Any], name: str, seeds: int) -> list[str]:
    """CCC of arousal, CCC of valence, both PCC, both RMSE, and how many thousand songs went through the model."""
    if name not in block["rows"]:
        return [f"not run here: `reproduce {block['table']}`", "", "", "", ""]
    row = block["rows"][name]
    trained, had = name in (*block["paper_rows"].values(), *block["extra"]), block["seeds"][name]
    note = f"<br><small>{had} of {seeds} seeds</small>" if trained and had < seeds else ""
    passes = block.get("song_passes", {}).get(name)
    return [
        *(markdown.interval(row[d]["ccc"]) + note for d in DIMENSIONS),
        *(SLASH.join(markdown.number(row[d][m]["mean"]) for d in DIMENSIONS) for m in ("pcc", "rmse")),
        "none" if passes is None else f"{passes / 1000:.1f}",
    ]


def table(block: Mapping[str, Any], published: Mapping[str, Any], seeds: int) -> str:
    """One table: the paper's rows beside ours, then the rows that the paper lacks."""
    datasets = [name for name in DATASETS if any(name in row for row in published["rows"])]
    both = "\u00a0a\u00a0/\u00a0v"
    header = ["row", *(f"paper, {DATASETS[d]}:<br>CCC{both},<br>PCC{both},<br>RMSE{both}" for d in datasets)]
    header += ["here: CCC<br>arousal", "CCC<br>valence", f"PCC<br>{both}", f"RMSE<br>{both}", "song passes<br>/ 1000"]
    lines = []
    for theirs, ours in block["paper_rows"].items():
        label = theirs if theirs == ours else f"{theirs} = {ours}"
        lines.append([label, *(paper_cells(published, theirs, d) for d in datasets), *_our_cells(block, ours, seeds)])
    others = [
        name for name in dict.fromkeys((*block["rows"], *block["extra"])) if name not in block["paper_rows"].values()
    ]
    lines += [[name, *("not in the paper" for _ in datasets), *_our_cells(block, name, seeds)] for name in others]
    return markdown.table(header, lines)


def _against(paired: Mapping[str, Any]) -> str:
    """The paper's method against each other row: CCC differences, their p-values and effect sizes."""
    rows = [
        [name, *(markdown.difference(cells[d]) for d in DIMENSIONS), *(p_text(cells[d]) for d in DIMENSIONS)]
        + ["none" if cells[d]["dz"] is None else markdown.number(cells[d]["dz"], 2, "+") for d in DIMENSIONS]
        for name, cells in paired.items()
    ]
    columns = ("{}", "p {}<br>(Holm)", "dz<br>{}")
    return markdown.table(["minus", *(column.format(d) for column in columns for d in DIMENSIONS)], rows)


def _gap(document: Mapping[str, Any], ours: str) -> str:
    """How far our method goes from the average listener's curve to the listener's own, known for the embedded corpus alone."""
    shares = " and ".join(f"{100 * share:.0f} % in {d}" for d, share in document["gap_closed"].items())
    factors = " and ".join(f"{factor:.1f} in {d}" for d, factor in document["spread"].items())
    return (
        f"Of the way from *{AVERAGE_CURVE_SPREAD}* to *{OWN_CURVE}*, *{ours}* goes {shares}. The spread was chosen on "
        f"validation listeners: {factors} times the curve's own."
    )


def _not_run(name: str, have: set[str]) -> list[str]:
    """For each of the paper's data sets that was not at hand, which command would compute the table on it."""
    personal, parts = not name.startswith(("table1", "table3")), []
    for dataset, label in DATASETS.items():
        if dataset not in have and not (dataset == "pmemo" and personal):
            command = (
                f"python -m dsaml reproduce {name.split('-')[0]} --profile paper --dataset {dataset} --root {label}"
            )
            parts.append(f"On {label}: not run: needs {label}. `{command}`")
    if personal and "pmemo" not in have:
        parts.append("On PMEmo: cannot be run: it publishes no labels of single annotators.")
    return parts


def text(name: str, runs: Sequence[Path], published: Mapping[str, Any], figures: Path) -> str:
    """What stands under a heading of the tables page: one block, of every run and data set at hand, the book's own first."""
    parts, have = [], set()
    for file, document in reference.found(runs, "tables-*.json"):
        block = document["blocks"].get(name)
        if not block or not set(block["paper_rows"].values()) & set(block["rows"]):
            continue  # nothing of this table was trained on this data set
        have.add(document["provenance"]["dataset"])
        seeds = len(document["provenance"]["seeds"])
        parts.append(
            f"{reference.title(document, file.parent.name)}, protocol `{block['protocol']}`, "
            f"{block['annotators']} annotator(s), {block['songs']} songs. Intervals resample {block['unit']}."
            + (" With one seed they say nothing about another training run." if seeds == 1 else "")
        )
        alt = "CCC of each row with its 95 % interval, arousal on the left, valence on the right; the table has the numbers."
        picture = figures / f"{name}-{file.stem}-{file.parent.name}.svg"
        parts.append(markdown.picture(forest(block["rows"]), picture, alt, SEE))
        parts.append(table(block, published[block["table"]], seeds))
        ours = block["paper_rows"]["Ours"]
        if name == "table4" and document["gap_closed"]:
            parts.append(_gap(document, ours))
        if block["paired"]:
            title = f"{ours} minus each other row: paired CCC differences"
            parts.append(markdown.folded(title, _against(block["paired"])))
        parts.append(f"<small>{stamp_line(document)}</small>")
    return "\n\n".join(parts + _not_run(name, have))
