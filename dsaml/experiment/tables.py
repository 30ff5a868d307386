"""Tables 1 to 4 of the paper beside ours: which of our rows stands beside which of theirs, and every number with its interval.

A *block* is one table under one protocol. Its payload holds, for every row, the mean and 95 % interval of each score, and the
paired differences between the paper's method and every other row, Holm-corrected over the block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dsaml.baselines import BASELINES
from dsaml.evaluate import bootstrap
from dsaml.experiment import recipes, rows
from dsaml.experiment.claims import wanted
from dsaml.experiment.recipes import DMER_MODEL, MAML_ANNOTATOR, MAML_MEAN, NON_META, baseline_name
from dsaml.experiment.scoring import Job

_BASELINES = [baseline_name(name) for name in reversed(BASELINES)]
_BOTH = [(name, *note) for name in reversed(BASELINES) for note in ((" (trained with MAML)", True), ("", False))]
PAPER_ROWS = {  # of each table: the paper's rows, with their notes, and ours
    "table1": {"Ours": DMER_MODEL} | {name: name for name in _BASELINES},
    "table2": {"Ours": MAML_ANNOTATOR}
    | {f"{baseline_name(name)}{note}": baseline_name(name, meta) for name, note, meta in _BOTH},
    "table3": {"Ours": DMER_MODEL} | {f"Ours {name}": name for name in recipes.ABLATIONS},
    "table4": {
        "Ours": MAML_ANNOTATOR,
        "Ours (trained without MAML)": recipes.ANNOTATOR_LABELS,
        "Ours (trained without the personalized task construction)": MAML_MEAN,
        "Ours (trained without MAML; trained without the personalized task construction)": NON_META,
    },
}
LONG = (recipes.NON_META_LONG, recipes.ANNOTATOR_LABELS_LONG)  # with MAML's number of song passes
WITHOUT_MAML = (*LONG, *map(rows.label_of, (NON_META, recipes.ANNOTATOR_LABELS, *LONG)))  # what the paper lacks
OTHER_WAYS = (rows.BEFORE, rows.HEAD_ONLY, rows.AS_TRAINED, *map(rows.shots_label, rows.SHOTS[1:]))  # to use our model

_ARGUMENT = [("pdmer", name) for name in (NON_META, MAML_MEAN, MAML_ANNOTATOR)]  # what Table 4 is about
JOBS = {  # what each table is computed from: kind of score and model, for every seed
    "book": [("dmer", DMER_MODEL), ("dmer", recipes.NO_ATTENTION_LOSS), *_ARGUMENT],  # no model is trained for a table alone
    "table1": [("dmer", name) for name in PAPER_ROWS["table1"].values()],
    "table3": [("dmer", name) for name in (*PAPER_ROWS["table3"].values(), recipes.RELEASED_POSITIONS)],
    "table4": [("dmer", DMER_MODEL), *(("pdmer", name) for name in (*PAPER_ROWS["table4"].values(), *LONG))],  # and their start
    "table2": [("pdmer", name) for name in (MAML_ANNOTATOR, *rows.BASELINE_MODELS)],
    "stress": _ARGUMENT,  # on the harder population
}


@dataclass(frozen=True)
class Block:
    """One table of the paper under one protocol."""

    name: str
    table: str  # key in PAPER_ROWS and data/paper_tables.json
    protocol: str
    extra: tuple[str, ...] = ()  # rows that the paper lacks, beside floors and oracles
    only_long_range: bool = False  # songs whose emotion depends on what was heard 8 to 15 s before


BLOCKS = (
    Block("table1", "table1", "dmer"),
    Block("table2", "table2", "cross-song", tuple(map(rows.label_of, _BASELINES))),
    Block("table3", "table3", "dmer", (recipes.RELEASED_POSITIONS,)),
    Block("table3-long-range", "table3", "dmer", only_long_range=True),
    Block("table4", "table4", "cross-song", (*WITHOUT_MAML, rows.SHIFTED, *OTHER_WAYS)),
    Block("table4-prefix", "table4", "prefix", WITHOUT_MAML),
)


def jobs_of(tables: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """What has to be trained and scored for some tables, by their names in ``JOBS``, with these training seeds."""
    pairs = dict.fromkeys(pair for name, pairs in JOBS.items() if name in tables for pair in pairs)
    return [(kind, model, seed) for kind, model in pairs for seed in seeds]


def block_payload(block: Block, scores: pd.DataFrame, long_range: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Means, intervals and paired differences of one block, from a scores table with the column ``protocol``.

    ``long_range`` are the songs with a long-range dependence, for a block that is restricted to them.

    Returns
    -------
    dict
        ``rows`` and ``paired`` (see ``summarize`` and ``compare`` in :mod:`dsaml.evaluate.bootstrap`), ``differences`` that the
        claims ask for, ``seeds`` of each row, the mean CCC of each seed (``by_seed``), ``unit``, and how many annotators
        and songs were scored.
    """
    paper_rows = PAPER_ROWS[block.table]
    known = {*paper_rows.values(), *block.extra, *rows.FLOORS, *rows.ORACLES}
    scores = scores[(scores.protocol == block.protocol) & scores.method.isin(known)]
    if block.only_long_range:
        scores = scores[scores.song.isin(long_range)]
    counts = {"annotators": scores.annotator.nunique(), "songs": scores.song.nunique()}
    unit = "listeners, songs and training seeds as crossed units"
    if block.protocol == "dmer":  # one curve per song: songs are what is resampled
        scores, unit = scores.assign(annotator=scores.song, song=""), "songs and training seeds as crossed units"
    if scores.annotator.nunique() * scores.song.nunique() < 2:
        scores = scores[:0]  # one listener and one song tell nothing about others: no rows
    scores = rows.order_rows(scores)
    crossed, ours = bootstrap.CrossedScores(scores), paper_rows["Ours"]
    methods = crossed.methods
    others = [name for name in methods if name != ours]
    differences = {
        f"{better} | {worse}": bootstrap.compare(crossed, better, [worse])[worse]
        for better, worse in wanted(block.name)
        if better in methods and worse in methods
    }
    return {
        "rows": bootstrap.summarize(crossed),
        "paired": bootstrap.compare(crossed, ours, others) if ours in methods else {},
        "differences": differences,
        "seeds": scores.groupby("method").seed.nunique().to_dict(),
        "by_seed": bootstrap.seed_means(crossed),
        "unit": unit,
        "table": block.table,
        "protocol": block.protocol,
        "paper_rows": dict(paper_rows),
        "extra": list(block.extra),
        "only_long_range": block.only_long_range,
    } | counts


def payload_of(scores: pd.DataFrame, long_range: frozenset[str]) -> dict[str, Any]:
    """All blocks of a scores table."""
    return {block.name: block_payload(block, scores, long_range) for block in BLOCKS}


def mean_passes(about: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> dict[str, int]:
    """How many times a song went through each trained row's model in training, on average over seeds."""
    found = {name: [rows[name]["song_passes"] for rows in about.values() if name in rows] for name in names}
    return {name: round(sum(counts) / len(counts)) for name, counts in found.items() if counts}
