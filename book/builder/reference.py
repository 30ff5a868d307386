"""Which results the pages show: every run that is there, the book's own profile first; and how this build's own compare.

A *run* is a folder of result files: ``results/<run>``. The reference run (``dsaml/reference/<run>``) is complete and has three
training seeds, the book's build trains one seed and a part of the rows. So tables, claims and the numbers of the prose come from
the reference run, unless this machine has results with as many training seeds of its own. It comes with the package, so that a
notebook on a machine without results shows it too.

``python -m dsaml reproduce all --update`` makes what it wrote the reference run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from book.builder import markdown
from dsaml.colab import READ
from dsaml.config import DIMENSIONS
from dsaml.errors import DsamlError
from dsaml.experiment.results import read_result, stamp_line
from dsaml.io import write_bytes_atomically

FILES = ("tables-*.json", "claims-*.json", "arena-*.json", "numbers.json")
"""What the pages show of it; everything else (curves, maps, sounds) is always this build's own."""
LIVE = "tables-synthetic.json"  # what is compared


def keep(results: Path, target: Path) -> list[Path]:
    """Make finished results the reference run: what pages and notebooks read of it, as small as JSON can be.

    Files of ``target`` that ``results`` does not have stay. Gives the files that were written.

    Raises
    ------
    DsamlError
        If a file is missing, or was computed by code that is not committed as it was; nothing is written then.
    """
    found = {file.name for pattern in FILES for file in results.glob(pattern)} | {f"{name}.json" for name in READ}
    documents = {name: read_result(results / name) for name in sorted({*found, LIVE})}
    if loose := [n for n, d in documents.items() if d["provenance"]["commit"] is None or d["provenance"]["dirty"]]:
        raise DsamlError(f"{results}: {', '.join(loose)} come from uncommitted changes; commit, and run 'reproduce all' again")
    for name, document in documents.items():
        write_bytes_atomically(target / name, json.dumps(document, separators=(",", ":")).encode() + b"\n")
    return [target / name for name in documents]


def choose(own: str, results: Path, reference: Path, target: Path) -> list[Path]:
    """Lay out what the pages show: of each file the one with more training seeds, this machine's own where both have as many.

    ``results`` and ``reference`` are folders of runs; ``target`` is written anew. Gives one folder for each run that has anything
    to show: ``own``, the run that the book is built from, always, then the others by name.
    """
    shutil.rmtree(target, ignore_errors=True)
    (target / own).mkdir(parents=True)
    for pattern in FILES:
        for folder in (reference, results):  # the second one stands where both have as many seeds
            for file in sorted(folder.glob(f"*/{pattern}")):
                there = target / file.parent.name / file.name
                there.parent.mkdir(exist_ok=True)
                if not there.is_file() or _seeds(file) >= _seeds(there):
                    shutil.copy(file, there)
    return sorted(target.iterdir(), key=lambda run: (run.name != own, run.name))


def found(runs: Iterable[Path], pattern: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every result file of a kind with its content, run by run."""
    for run in runs:
        for file in sorted(run.glob(pattern)):
            yield file, read_result(file)


def title(document: Mapping[str, Any], run: str) -> str:
    """What a result is, for the line above it: data set, real or synthetic, profile, run if it has another name, encoder, seeds."""
    stamp, count = document["provenance"], len(document["provenance"]["seeds"])
    kind, seeds = "real data" if stamp["real"] else "synthetic data", "seed" if count == 1 else "seeds"
    profile = f"profile `{stamp['profile']}`" + (f" in `results/{run}`" if run != stamp["profile"] else "")
    return f"**{stamp['dataset']}** ({kind}), {profile}, encoder `{stamp['encoder']}`, {count} training {seeds}"


def _seeds(file: Path) -> int:
    return len(read_result(file)["provenance"]["seeds"])


def _rows(document: Mapping[str, Any]) -> Iterator[tuple[str, str, str, list[float]]]:
    """Block, row, dimension, and the CCC of each seed."""
    for name, block in document["blocks"].items():
        for row, cells in block.get("by_seed", {}).items():
            for d in DIMENSIONS:
                yield name, row, d, cells[d]


def expected(values: list[float]) -> tuple[float, float]:
    """Between what the score of one more training seed lies with 95 %: Student's prediction interval.

    Raises
    ------
    DsamlError
        If there are fewer than two seeds.
    """
    count = len(values)
    if count < 2:
        raise DsamlError("the reference run has one training seed, which says nothing about another; run it with three")
    reach = stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) * np.sqrt(1 + 1 / count)
    return float(np.mean(values) - reach), float(np.mean(values) + reach)


def comparison(results: Path, reference: Path) -> str:
    """Every row that this build trained, beside the reference run: is its CCC one that another seed could have given?

    One score in twenty lies outside by chance, so the line is red where more do than chance leaves (95 %, binomial).
    """
    ours, theirs = results / LIVE, reference / LIVE
    if not ours.is_file() or not theirs.is_file():
        missing = ours if not ours.is_file() else theirs
        return f"*{missing.name} is missing here, so nothing can be compared.*"
    own, run = read_result(ours), read_result(theirs)
    known = {(block, row, d): values for block, row, d, values in _rows(run)}
    lines, outside = [], 0
    for block, row, d, values in _rows(own):
        if (block, row, d) not in known:
            continue
        low, high = expected(known[block, row, d])
        value = float(np.mean(values))
        inside = low <= value <= high
        outside += not inside
        verdict = "inside" if inside else "**outside**"
        seeds = ", ".join(f"{v:.3f}" for v in known[block, row, d])
        lines.append([block, row, d, f"{value:.3f}", seeds, f"[{low:.3f}, {high:.3f}]", verdict])
    if not lines:
        return "*This build trained no row of the reference run.*"
    allowed = int(stats.binom.ppf(0.95, len(lines), 0.05))
    said = (
        f"{len(lines) - outside} of {len(lines)} scores lie where 95 of 100 training seeds of the reference run would lie. "
        f"Chance alone leaves up to {allowed} outside."
    )
    if outside > allowed:
        said = f'<span style="color:#b00020">**{outside} of {len(lines)} scores lie outside: more than chance.**</span> ' + said
    header = ("table", "row", "", "this build", "reference, by seed", "95 % of one more seed", "")
    table = markdown.folded("Every row", markdown.table(header, lines))
    return "\n\n".join(
        [said, table, f"<small>This build: {stamp_line(own)}</small>", f"<small>Reference: {stamp_line(run)}</small>"]
    )
