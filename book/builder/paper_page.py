"""The paper's tables (``data/paper_tables.json``), and where they disagree with each other or with the text about them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dsaml.config import DIMENSIONS, METRICS

DATASETS = {"deam": "DEAM", "pmemo": "PMEmo"}  # on which the paper has numbers
WITH_MAML = "trained with MAML"
NO_MAML, NO_TASKS = "trained without MAML", "trained without the personalized task construction"
Cells = Mapping[tuple[str, str], float]


def read(data: Path) -> dict[str, Any]:
    """The paper's tables, "table1" to "table4"."""
    return json.loads((data / "paper_tables.json").read_text(encoding="utf-8"))


def row_name(row: Mapping[str, Any]) -> str:
    """A row's model, and its note if it has one."""
    return f"{row['model']} ({row['note']})" if row.get("note") else row["model"]


def _row(table: Mapping[str, Any], model: str, note: str = "", dataset: str = "deam") -> Cells:
    """The six numbers of a row by (dimension, metric)."""
    (row,) = [r[dataset] for r in table["rows"] if r["model"] == model and r.get("note", "") == note]
    return {(d, m): row[d][m] for d in DIMENSIONS for m in METRICS}


def _better(first: Cells, second: Cells) -> list[tuple[str, str]]:
    """Cells in which the first row is the better one: the larger, or the smaller RMSE."""
    return [key for key in first if (first[key] - second[key]) * (-1 if key[1] == "rmse" else 1) > 0]


def _pairs(keys: list[tuple[str, str]], first: Cells, second: Cells) -> str:
    """Cells of two rows in words."""
    return ", ".join(f"{d} {m.upper()} {first[d, m]:.3f} against {second[d, m]:.3f}" for d, m in keys)


def _table1(published: Mapping[str, Any]) -> Iterator[str]:
    one, three = (published[name] for name in ("table1", "table3"))
    for dataset, label in DATASETS.items():
        first, third = (_row(table, "Ours", dataset=dataset) for table in (one, three))
        if differ := [key for key in first if first[key] != third[key]]:
            yield f'"Ours" on {label} is one number here and another in Table 3: {_pairs(differ, first, third)}.'
        else:
            yield f'On {label} the two rows "Ours" are the same.'
    ours, damff = (_row(one, name, dataset="pmemo") for name in ("Ours", "DAMFF"))
    if worse := _better(damff, ours):
        yield (
            f"On PMEmo DAMFF is better in {_pairs(worse, damff, ours)}. The text puts it down to short songs, untested; the test "
            "songs are the ones longer than 65 s."
        )


def _table2(published: Mapping[str, Any]) -> Iterator[str]:
    table = published["table2"]
    names = [row["model"] for row in table["rows"] if row.get("note") == WITH_MAML]
    worse = [key for name in names for key in _better(_row(table, name), _row(table, name, WITH_MAML))]
    counts = ", ".join(f"{m.upper()} {' and '.join(str(worse.count((d, m))) for d in DIMENSIONS)}" for m in METRICS)
    yield (
        "The text says that MAML makes the other models worse. In arousal and valence it does so to this many of the "
        f"{len(names)}: {counts}. In the other cells they are as good or better with MAML."
    )


def _table3(published: Mapping[str, Any]) -> Iterator[str]:
    table = published["table3"]
    parts = [row["model"] for row in table["rows"] if row["model"] != "Ours"]
    for dataset, label in DATASETS.items():
        ours = _row(table, "Ours", dataset=dataset)
        rows = {name.removeprefix("Ours "): _row(table, name, dataset=dataset) for name in parts}
        for name, row in rows.items():
            if found := _better(row, ours):
                yield f"On {label} *{name}* is better than the whole model: {_pairs(found, row, ours)}."
            if found := [key for key in ours if ours[key] == row[key]]:
                yield (
                    f"On {label} *{name}* is as good as the whole model: {_pairs(found, row, ours)}; in bold is the ablation alone."
                )
        for d in DIMENSIONS:
            least = max(rows, key=lambda name: rows[name][d, "ccc"])
            if least.endswith(("Attention-Loss", "Adapter")):
                yield (
                    f"The text says that the attention loss and the adapter matter most. In {d} on {label}, by CCC, "
                    f"*{least}* matters least."
                )


def _table4(published: Mapping[str, Any]) -> Iterator[str]:
    table, both = published["table4"], f"{NO_MAML}; {NO_TASKS}"
    ours, rows = _row(table, "Ours"), {name: _row(table, "Ours", name) for name in (NO_MAML, NO_TASKS, both)}
    if found := _better(rows[NO_MAML], rows[both]):
        cells = _pairs(found, rows[NO_MAML], rows[both])
        yield f"The text says that annotators' labels without MAML are worse than neither. Not in {cells}."
    for name, row in rows.items():
        if found := _better(row, ours):
            yield f"*{name}* is better than the whole method: {_pairs(found, row, ours)}."
        if found := [key for key in ours if ours[key] == row[key]]:
            yield f"*{name}* is as good as the whole method: {_pairs(found, row, ours)}; in bold is the whole method alone."


def text(table: str, published: Mapping[str, Any]) -> str:
    """What to know when reading a table of the paper, as a list; ``table`` is "table1" to "table4"."""
    make = {"table1": _table1, "table2": _table2, "table3": _table3, "table4": _table4}[table]
    return "\n".join(f"- {line}" for line in make(published))
