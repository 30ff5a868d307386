"""The pages of tables and claims, from result files: ``tables-*.json`` and ``claims-*.json`` of a profile; the list of claims.

A cell without a number says why there is none, and which command would fill it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from book.builder.published import notes
from book.builder.speed import markdown
from dsaml.config import DIMENSIONS, METRICS
from dsaml.evaluate.oracles import AVERAGE_CURVE_SPREAD, OWN_CURVE
from dsaml.experiment.results import read_result, stamp_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dsaml.experiment.claims import Claim

MARK = re.compile(r"<!-- (tables|claims|paper): ([a-z0-9-]+) -->")
CLAIMS_LIST = "<!-- claims-list -->"
DATASETS = {"deam": "DEAM", "pmemo": "PMEmo"}
UNITS = {"separation": "separation in seconds"}  # of differences that are not CCC
WHERE = {
    "figure4": "[the attention maps](../notebooks/02_attention_maps.ipynb)",
    "study": "[the study](../notebooks/05_subjective_study.ipynb): its statistics, on simulated answers",
}
VERDICTS = {
    "holds": "**holds**",
    "does not hold": "**does not hold**",
    "not decided": "not decided",
    "not run": "not run",
}


def interval(cell: Mapping[str, float], sign: str = "") -> str:
    """Mean, and below it the 95 % interval; with ``sign`` "+" every number has one."""
    mean, low, high = (f"{cell[key]:{sign}.3f}".replace("-", "−") for key in ("mean", "low", "high"))
    return f"{mean}<br><small>[{low},\u00a0{high}]</small>"


def difference(cell: Mapping[str, float] | None) -> str:
    """A paired difference, and whether it lacks the seeds' share of the uncertainty; or why there is none."""
    if cell is None:
        return "not run"
    return interval(cell, "+") + ("<br><small>seeds: unknown</small>" if cell["seeds"] == "unknown" else "")


def p_value(cell: Mapping[str, Any]) -> str:
    """The Holm-corrected p-value; where p could not be smaller, what it is below."""
    digits = 3 if cell["p_holm"] >= 0.001 else 4
    return ("< " if cell["p"] <= cell["p_floor"] else "") + f"{cell['p_holm']:.{digits}f}"


def paper_cells(published: Mapping[str, Any], row: str, dataset: str) -> str:
    """The paper's CCC, PCC and RMSE of a row, arousal / valence."""
    for entry in published["rows"]:
        name = f"{entry['model']} ({entry['note']})" if entry.get("note") else entry["model"]
        if name == row and dataset in entry:
            cells = entry[dataset]
            return "<br>".join("\u00a0/\u00a0".join(f"{cells[d][m]:.3f}" for d in DIMENSIONS) for m in METRICS)
    return "not in the paper"


def _our_cells(block: Mapping[str, Any], name: str, seeds: int) -> list[str]:
    if name not in block["rows"]:
        return [f"not run here: `reproduce {block['table']}`", "", "", "", ""]
    row = block["rows"][name]
    trained, had = name in (*block["paper_rows"].values(), *block["extra"]), block["seeds"][name]
    note = f"<br><small>{had} of {seeds} seeds</small>" if trained and had < seeds else ""
    return [interval(row[d]["ccc"]) + note for d in DIMENSIONS] + [
        "\u00a0/\u00a0".join(f"{row[d][m]['mean']:.3f}" for d in DIMENSIONS).replace("-", "−") for m in ("pcc", "rmse")
    ] + [_thousands(block.get("song_passes", {}).get(name))]


def _thousands(passes: int | None) -> str:
    """Song passes in thousands; a row that nothing was trained for has none."""
    return "none" if passes is None else f"{passes / 1000:.1f}"


def table(block: Mapping[str, Any], published: Mapping[str, Any], seeds: int) -> str:
    """One table: the paper's rows beside ours, then the rows that the paper lacks."""
    datasets = [name for name in DATASETS if any(name in row for row in published["rows"])]
    both = "\u00a0a\u00a0/\u00a0v"
    header = ["row", *(f"paper, {DATASETS[d]}:<br>CCC{both},<br>PCC{both},<br>RMSE{both}" for d in datasets)]
    header += ["here: CCC<br>arousal", "CCC<br>valence", f"PCC<br>{both}", f"RMSE<br>{both}", "song passes<br>/ 1000"]
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
        [name, *(difference(cells[d]) for d in DIMENSIONS), *(p_value(cells[d]) for d in DIMENSIONS)]
        + ["none" if cells[d]["dz"] is None else f"{cells[d]['dz']:+.2f}".replace("-", "−") for d in DIMENSIONS]
        for name, cells in block["paired"].items()
    ]
    header = (
        "minus",
        "arousal",
        "valence",
        "p arousal<br>(Holm)",
        "p valence<br>(Holm)",
        "dz<br>arousal",
        "dz<br>valence",
    )
    return markdown(header, rows) if rows else ""


def _picture(figure: Figure, file: Path, alt: str) -> str:
    """Save a figure beside the page that shows it; the text that puts it there."""
    from matplotlib import pyplot

    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None}, facecolor="white", bbox_inches="tight")
    pyplot.close(figure)
    return f"```{{image}} {file.parent.name}/{file.name}\n:alt: {alt}\n:width: 100%\n```"


def _folded(title: str, text: str) -> str:
    """Text that a reader opens."""
    return f":::{{dropdown}} {title}\n{text}\n:::"


def tables_text(name: str, results: Path, published: Mapping[str, Any], figures: Path) -> str:
    """What stands under a heading of the tables page: one block, for each data set at hand.

    Parameters
    ----------
    name : str
        The block's name.
    results : Path
        Folder of the result files.
    published : mapping
        The paper's tables.
    figures : Path
        Folder beside the page, where its figures are put.
    """
    from dsaml.plots.curves import forest

    parts = []
    found = sorted(results.glob("tables-*.json"))
    for file in found:
        document = read_result(file)
        if not set(document["blocks"][name]["paper_rows"].values()) & set(document["blocks"][name]["rows"]):
            continue  # nothing of this table was trained on this data set
        block, seeds = document["blocks"][name], len(document["provenance"]["seeds"])
        real = "real data" if document["provenance"]["real"] else "synthetic data"
        ours = block["paper_rows"]["Ours"]
        parts += [
            f"**{file.stem.removeprefix('tables-')}** ({real}), protocol `{block['protocol']}`, {seeds} training seed(s), "
            f"{block['annotators']} annotator(s), {block['songs']} songs. Intervals resample {block['unit']}."
            + (" With one seed they say nothing about another training run." if seeds == 1 else ""),
        ]
        if block["rows"]:
            alt = "CCC of each row with its 95 % interval, arousal on the left, valence on the right; the table has the numbers."
            parts.append(_picture(forest(block["rows"]), figures / f"{name}-{file.stem}.svg", alt))
        parts.append(table(block, published[block["table"]], seeds))
        if name == "table4" and document["gap_closed"]:
            shares = " and ".join(f"{100 * share:.0f} % in {d}" for d, share in document["gap_closed"].items())
            factors = " and ".join(f"{factor:.1f} in {d}" for d, factor in document["spread"].items())
            parts.append(
                f"Of the way from *{AVERAGE_CURVE_SPREAD}* to *{OWN_CURVE}*, *{ours}* goes {shares}. The spread was chosen on "
                f"validation listeners: {factors} times the curve's own."
            )
        if block["paired"]:
            parts.append(_folded(f"{ours} minus each other row: paired CCC differences", _against(block)))
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


def _deciding(claim: Mapping[str, Any]) -> str:
    """The difference that decides: of a claim that does not hold the one farthest below zero, else the one that reaches lowest."""
    cells = [(cell, name, row) for row in claim["comparisons"] for name, cell in (row["cells"] or {}).items()]
    if not cells:
        return claim["needs"] or "not run"
    end = "high" if claim["verdict"] == "does not hold" else "low"
    cell, name, row = min(cells, key=lambda found: found[0][end])
    return f"{difference(cell)}<br>p (Holm) {p_value(cell)}<br>{UNITS.get(name, name)}, {row['better']} minus {row['worse']}"


def _where(claim: Claim) -> str:
    """Where in the book a claim's numbers are."""
    block = claim.comparisons[0].block if claim.comparisons else "study"
    return WHERE.get(block) or f"[Table {block.removeprefix('table')[0]}](tables.md)"


def claims_list() -> str:
    """Every claim with its evidence in the paper and its place in this book."""
    from dsaml.experiment.claims import CLAIMS  # imports torch

    header = ("", "claim", "the paper's evidence", "here")
    return markdown(header, [[c.id, c.text, c.evidence, _where(c)] for c in CLAIMS]).replace("---:", ":---")


def claim_words() -> dict[str, str]:
    """For the prose: ``{{ claims.C1 }}`` is the claim's id and wording."""
    from dsaml.experiment.claims import CLAIMS

    return {f"claims.{claim.id}": f"{claim.id} (*{claim.text}*)" for claim in CLAIMS}


def claims_text(dataset: str, results: Path, figures: Path) -> str:
    """The claims on one data set: verdicts, a picture of all differences, and their numbers."""
    from dsaml.experiment.claims import CLAIMS
    from dsaml.plots.curves import evidence

    file = results / f"claims-{dataset}.json"
    if not file.is_file():
        return f"*Not run: `python -m dsaml reproduce all --dataset {dataset}` writes {file.name}.*"
    document = read_result(file)
    judged = document["claims"]
    if [(c["id"], c["text"]) for c in judged] != [(c.id, c.text) for c in CLAIMS]:
        return f"*{file.name} judges another list of claims: `python -m dsaml reproduce all --dataset {dataset}` writes it anew.*"
    rows = [
        [c.id, c.text, c.evidence, _deciding(found), VERDICTS[found["verdict"]], f"`{c.command.split('dsaml ')[1]}`"]
        for c, found in zip(CLAIMS, judged, strict=True)
    ]
    header = ("", "claim", "the paper's evidence", "here: the difference that decides", "verdict", "python -m dsaml …")
    every = [
        [c["id"], row["better"], row["worse"], UNITS.get(name, name), difference(cell), p_value(cell)]
        for c in judged
        for row in c["comparisons"]
        for name, cell in (row["cells"] or {}).items()
    ]
    of_ccc = [c for c in judged if any(set(row["cells"] or {}) - set(UNITS) for row in c["comparisons"])]
    seeds = len(document["provenance"]["seeds"])
    parts = [f"With {seeds} training seed{'s' if seeds > 1 else ''}.", markdown(header, rows).replace("---:", ":---")]
    if of_ccc:
        alt = "Paired CCC differences with 95 % intervals under each claim, arousal on the left, valence on the right."
        parts += [
            "Every CCC difference behind a verdict, with its 95 % interval (not corrected). Green is above zero and orange "
            "below with p < 0.05 after Holm's correction within the claim; grey is neither:",
            _picture(evidence(of_ccc), figures / f"{file.stem}.svg", alt),
        ]
    if every:
        parts.append(_folded("The same in numbers", markdown(("", "better", "minus", "", "difference", "p (Holm)"), every)))
    parts.append(f"<small>{stamp_line(document)}</small>")
    return "\n\n".join(parts)


def write_page(page: Path, results: Path, data: Path) -> None:
    """Fill the marks of a page, in place."""
    published = json.loads((data / "paper_tables.json").read_text(encoding="utf-8"))
    figures = page.parent / "_figures"
    makers: dict[str, Callable[[str], str]] = {
        "tables": lambda name: tables_text(name, results, published, figures),
        "claims": lambda name: claims_text(name, results, figures),
        "paper": lambda name: notes(published, name),
    }
    text = MARK.sub(lambda match: makers[match[1]](match[2]), page.read_text(encoding="utf-8"))
    if CLAIMS_LIST in text:
        text = text.replace(CLAIMS_LIST, claims_list())
    page.write_text(text, encoding="utf-8")
