"""Tables 1 to 4 of the paper beside ours: which of our rows stands beside which of theirs, and every number with its interval.

A *block* is one table under one protocol. Its payload holds, for every row, the mean and 95 % interval of each score, and the
paired differences between the paper's method and every other row, Holm-corrected over the block.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dsaml import attention, bootstrap
from dsaml import evaluation as ev
from dsaml import reproduce as rp
from dsaml import scoring as sc
from dsaml.baselines import BASELINES
from dsaml.claims import judge_all, wanted
from dsaml.datasets import synthetic
from dsaml.experiment import Experiment
from dsaml.prepare import EMBEDDED
from dsaml.recipes import (
    ABLATIONS,
    ANNOTATOR_LABELS,
    ANNOTATOR_LABELS_LONG,
    MAML_ANNOTATOR,
    MAML_MEAN,
    NO_ATTENTION_LOSS,
    NON_META,
    NON_META_LONG,
    RELEASED_POSITIONS,
    SUPERVISED,
    baseline_name,
)
from dsaml.results import provenance, write_result
from dsaml.scoring import Job

ORACLES = (ev.AVERAGE_CURVE, ev.AVERAGE_CURVE_SPREAD, ev.OWN_CURVE)
FLOORS = ("constant (training mean)", "the song's own mean (oracle)", "support mean", "last support value")


@dataclass(frozen=True)
class Block:
    """One table of the paper under one protocol."""

    name: str
    table: str  # key in data/paper_tables.json
    protocol: str
    rows: Mapping[str, str]  # the paper's row (with its note) -> ours
    extra: tuple[str, ...] = ()  # rows that the paper lacks, beside floors and oracles
    only_long_range: bool = False  # songs whose emotion depends on what was heard 8 to 15 s before
    unit: str = "listeners, songs and training seeds as crossed units"

    @property
    def ours(self) -> str:
        """Our row beside the paper's "Ours"."""
        return self.rows["Ours"]


SONGS = "songs and training seeds as crossed units"
_TABLE1 = {"Ours": SUPERVISED} | {baseline_name(n): baseline_name(n) for n in reversed(BASELINES)}
_TABLE2 = {"Ours": MAML_ANNOTATOR} | {
    key: value
    for n in reversed(BASELINES)
    for key, value in (
        (f"{baseline_name(n)} (trained with MAML)", baseline_name(n, meta=True)),
        (baseline_name(n), baseline_name(n)),
    )
}
_TABLE3 = {"Ours": SUPERVISED} | {f"Ours {name}": name for name in ABLATIONS}
_TABLE4 = {
    "Ours": MAML_ANNOTATOR,
    "Ours (trained without MAML)": ANNOTATOR_LABELS,
    "Ours (trained without the personalized task construction)": MAML_MEAN,
    "Ours (trained without MAML; trained without the personalized task construction)": NON_META,
}
_LONG = (NON_META_LONG, ANNOTATOR_LABELS_LONG)  # with MAML's number of song passes
_FINE_TUNED = tuple(sc.label_of(name) for name in (NON_META, ANNOTATOR_LABELS, *_LONG))
_MORE = (*_LONG, *_FINE_TUNED)
_SHOTS = (sc.BEFORE, sc.HEAD_ONLY, sc.AS_TRAINED, *(sc.shots_label(n) for n in sc.SHOTS[1:]))

BLOCKS = (
    Block("table1", "table1", "dmer", _TABLE1, unit=SONGS),
    Block("table2", "table2", "cross-song", _TABLE2, tuple(sc.label_of(baseline_name(n)) for n in reversed(BASELINES))),
    Block("table3", "table3", "dmer", _TABLE3, (RELEASED_POSITIONS,), unit=SONGS),
    Block("table3-long-range", "table3", "dmer", _TABLE3, only_long_range=True, unit=SONGS),
    Block("table4", "table4", "cross-song", _TABLE4, (*_MORE, sc.SHIFTED, *_SHOTS)),
    Block("table4-prefix", "table4", "prefix", _TABLE4, _MORE),
)


def jobs_of(tables: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """What has to be trained and scored for some tables.

    Parameters
    ----------
    tables : sequence of str
        "table1" to "table4".
    seeds : sequence of int
        Training seeds.
    """
    dmer: dict[str, None] = {}
    dmer |= dict.fromkeys(_TABLE1.values()) if "table1" in tables else {}
    dmer |= dict.fromkeys((*_TABLE3.values(), RELEASED_POSITIONS)) if "table3" in tables else {}
    pdmer = dict.fromkeys((*_TABLE4.values(), *_LONG)) if "table4" in tables else {}
    pdmer |= dict.fromkeys((MAML_ANNOTATOR, *sc.BASELINE_MODELS)) if "table2" in tables else {}
    jobs = [("dmer", name, seed) for name in dmer for seed in seeds]
    return jobs + [("pdmer", name, seed) for name in pdmer for seed in seeds]


def stress_jobs(seeds: Sequence[int]) -> list[Job]:
    """What is trained and scored on the stress test's population: the rows that the argument of Table 4 is about."""
    return [("pdmer", name, seed) for name in (NON_META, MAML_MEAN, MAML_ANNOTATOR) for seed in seeds]


def book_jobs(seeds: Sequence[int]) -> list[Job]:
    """The part of the tables that the book's own build computes: no model is trained for it alone."""
    jobs = [("dmer", name, seed) for name in (SUPERVISED, NO_ATTENTION_LOSS) for seed in seeds]
    return jobs + [("pdmer", name, seed) for name in (NON_META, MAML_MEAN, MAML_ANNOTATOR) for seed in seeds]


def block_payload(block: Block, scores: pd.DataFrame, songs: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Means, intervals and paired differences of one block.

    Parameters
    ----------
    block : Block
    scores : DataFrame
        A scores table with the column ``protocol``.
    songs : frozenset of str
        The songs with a long-range dependence, for a block that is restricted to them.

    Returns
    -------
    dict
        ``rows`` (see :func:`dsaml.bootstrap.summarize`), ``paired`` (see :func:`dsaml.bootstrap.compare`), ``seeds`` of each
        row, ``unit``, and how many annotators and songs were scored.
    """
    known = {*block.rows.values(), *block.extra, *FLOORS, *ORACLES}
    about = {
        "table": block.table,
        "protocol": block.protocol,
        "paper_rows": dict(block.rows),
        "extra": list(block.extra),
    }
    about |= {"only_long_range": block.only_long_range, "unit": block.unit}
    table = scores[(scores.protocol == block.protocol) & scores.method.isin(known)]
    if block.only_long_range:
        table = table[table.song.isin(songs)]
    if table.empty:
        empty: dict[str, Any] = {"rows": {}, "paired": {}, "differences": {}, "seeds": {}, "by_seed": {}}
        return empty | about | {"annotators": 0, "songs": 0}
    counts = about | {"annotators": table.annotator.nunique(), "songs": table.song.nunique()}
    if block.protocol == "dmer":  # one curve per song: songs are what is resampled
        table = table.assign(annotator=table.song, song="")
    table = rp.order_rows(table)
    methods = list(table.method.unique())
    paired = {}
    if block.ours in methods and len(methods) > 1:
        paired = bootstrap.compare(table, block.ours, [name for name in methods if name != block.ours])
    differences = {
        f"{better} | {worse}": bootstrap.compare(table, better, [worse])[worse]
        for better, worse in wanted(block.name)
        if better in methods and worse in methods
    }
    seeds = table.groupby("method").seed.nunique().to_dict()
    out = {
        "rows": bootstrap.summarize(table),
        "paired": paired,
        "differences": differences,
        "seeds": seeds,
        "by_seed": bootstrap.seed_means(table),
        "unit": block.unit,
    }
    return out | counts


def payload_of(scores: pd.DataFrame, long_range: frozenset[str]) -> dict[str, Any]:
    """All blocks of a scores table."""
    return {block.name: block_payload(block, scores, long_range) for block in BLOCKS}


def mean_passes(about: Mapping[str, Mapping[str, Any]], rows: Iterable[str]) -> dict[str, int]:
    """How many times a song went through each trained row's model in training, on average over seeds."""
    found = {row: [of_seed[row]["song_passes"] for of_seed in about.values() if row in of_seed] for row in rows}
    return {row: round(sum(counts) / len(counts)) for row, counts in found.items() if counts}


def long_range_songs(experiment: Experiment) -> frozenset[str]:
    """Songs with a bell, whose effect comes 8 to 15 s later; known for the embedded corpus only."""
    if experiment.dataset.name not in EMBEDDED:
        return frozenset()
    return frozenset(synthetic.describe(experiment.dataset.root)["bells"])


def compute(experiment: Experiment, jobs: Sequence[Job], results: Path, workers: int = 2) -> dict[str, Any]:
    """Score trained models, write ``tables-<data set>.json`` and ``claims-<data set>.json``; scores on disk are not repeated."""
    started = time.perf_counter()
    scores, about = sc.score_all(experiment, jobs, workers)
    fixed = [
        table.assign(protocol=protocol)
        for protocol, parts in sc.fixed_rows(experiment).items()
        for table in parts
        if len(table)
    ]
    blocks = payload_of(pd.concat([*fixed, scores], ignore_index=True), long_range_songs(experiment))
    gap = None
    if experiment.dataset.oracle and MAML_ANNOTATOR in blocks["table4"]["rows"]:
        gap = bootstrap.gap_closed(blocks["table4"]["rows"], MAML_ANNOTATOR)
    shown = sorted({seed for kind, name, seed in jobs if kind == "dmer" and name == NO_ATTENTION_LOSS})
    if shown:
        frames = [attention.attention_separation(experiment, seed) for seed in shown]
        blocks[attention.BLOCK] = attention.separation_block(pd.concat(frames))
    for block in blocks.values():
        block["song_passes"] = mean_passes(about, block["rows"])
    spread = ev.best_spread(experiment.store) if experiment.dataset.oracle else None
    payload = {"blocks": blocks, "selection": about, "gap_closed": gap, "spread": spread}
    name, seconds = experiment.dataset.name, time.perf_counter() - started
    stamp = provenance(
        experiment.profile, experiment.dataset, seeds=sorted({seed for *_, seed in jobs}), seconds=seconds
    )
    write_result(results / f"tables-{name}.json", payload, stamp)
    write_result(results / f"claims-{name}.json", {"claims": judge_all(blocks)}, stamp)
    return payload
