"""From trained models to the book's result files. Display reads these files and nothing else."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from dsaml import bootstrap, protocols
from dsaml import evaluation as ev
from dsaml.baselines import BASELINES
from dsaml.claims import LEVEL
from dsaml.config import Profile
from dsaml.experiment import Experiment
from dsaml.prepare import prepare
from dsaml.recipes import (
    ABLATIONS,
    ANNOTATOR_LABELS,
    ANNOTATOR_LABELS_LONG,
    MAML_ANNOTATOR,
    MAML_MEAN,
    NO_ATTENTION_LOSS,
    NON_META,
    NON_META_LONG,
    SUPERVISED,
    baseline_name,
)
from dsaml.results import provenance, write_result
from dsaml.scoring import (
    AS_TRAINED,
    BEFORE,
    FINE_TUNED,
    HEAD_ONLY,
    SHIFTED,
    SHOTS,
    Job,
    fixed_rows,
    label_of,
    score_all,
    shots_label,
    train_for,
)

log = logging.getLogger(__name__)

DEMO_MODELS = (SUPERVISED, NO_ATTENTION_LOSS, NON_META, MAML_MEAN, MAML_ANNOTATOR)  # what make book trains


def order_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Floors first, then models from the trivial to the best, oracles last."""
    rank = [
        *("constant (training mean)", "the song's own mean (oracle)", "support mean", "last support value"),
        *(label for name in BASELINES for label in _baseline_labels(name)),
        *(NON_META, SHIFTED, FINE_TUNED, NON_META_LONG, label_of(NON_META_LONG)),
        *(ANNOTATOR_LABELS, label_of(ANNOTATOR_LABELS), ANNOTATOR_LABELS_LONG, label_of(ANNOTATOR_LABELS_LONG)),
        *(MAML_MEAN, BEFORE, HEAD_ONLY, AS_TRAINED, MAML_ANNOTATOR, *(shots_label(n) for n in SHOTS[1:])),
        *(*ABLATIONS, SUPERVISED, ev.AVERAGE_CURVE, ev.AVERAGE_CURVE_SPREAD, ev.OWN_CURVE),
    ]
    place = {name: k for k, name in enumerate(rank)}
    return table.sort_values("method", key=lambda names: names.map(place), kind="stable").reset_index(drop=True)


def _baseline_labels(name: str) -> tuple[str, str, str]:
    return baseline_name(name), label_of(baseline_name(name)), baseline_name(name, meta=True)


def pdmer(experiment: Experiment, seeds: tuple[int, ...], results: Path, workers: int = 2) -> dict[str, Any]:
    """Score the book's trained models cross-song, write ``pdmer.json`` and ``scores.csv``; returns what was written."""
    started = time.perf_counter()
    jobs = [("pdmer", name, seed) for seed in seeds for name in (MAML_ANNOTATOR, MAML_MEAN, NON_META)]
    models, chosen = score_all(experiment, jobs, workers)
    fixed = fixed_rows(experiment)["cross-song"]
    table = order_rows(pd.concat([*fixed, models[models.protocol == "cross-song"]], ignore_index=True))
    summary = bootstrap.summarize(table)
    others = [name for name in table.method.unique() if name != MAML_ANNOTATOR]
    payload = {
        "protocol": dataclasses.asdict(protocols.PROTOCOLS["cross-song"])
        | {
            "listeners": table.annotator.nunique(),
            "songs": table.song.nunique(),
            "intervals": "95 %, bootstrap of listeners, songs and training seeds as crossed units",
        },
        "rows": summary,
        "paired": {
            "method": MAML_ANNOTATOR,
            "metric": "ccc",
            "against": bootstrap.compare(table, MAML_ANNOTATOR, others),
        },
        "gap_closed": bootstrap.gap_closed(summary, MAML_ANNOTATOR) if experiment.dataset.oracle else None,
        "selection": chosen,
        "spread": ev.best_spread(experiment.store) if experiment.dataset.oracle else None,
    }
    results.mkdir(parents=True, exist_ok=True)
    table.to_csv(results / "scores.csv", index=False, float_format="%.6f")
    stamp = provenance(experiment.profile, experiment.dataset, seeds=list(seeds), seconds=time.perf_counter() - started)
    write_result(results / "pdmer.json", payload, stamp)
    return payload


def demo_results(
    profile: Profile,
    results: Path,
    cache: Path,
    seeds: tuple[int, ...] | None = None,
    jobs: list[Job] | None = None,
) -> None:
    """Every result file of the book's own build, on the embedded corpus (the compute step of ``make book``).

    Parameters
    ----------
    profile : Profile
    results : Path
        Folder of the result files, ``results/<profile>``.
    cache : Path
        Corpus, features, checkpoints, scores.
    seeds : tuple of int, optional
        Training seeds; the profile's by default.
    jobs : list of (kind, model, seed), optional
        What the tables are computed from; by default what needs no further model.
    """
    from dsaml import exhibits, tables

    seeds = profile.seeds if seeds is None else seeds
    experiment = prepare(profile, cache)
    jobs = jobs or tables.book_jobs(seeds)
    train_for(experiment, {*tables.book_jobs(seeds), *jobs})  # all at once: no core waits
    payload = pdmer(experiment, seeds, results)
    tables.compute(experiment, jobs, results)
    exhibits.write_all(experiment, payload, seeds[0], results)
    log.info("results in %s", results)


def stress_results(profile: Profile, results: Path, cache: Path, seeds: tuple[int, ...]) -> None:
    """Table 4 and its claims on the stress test: the same songs, heard by a harder population.

    Parameters as in :func:`demo_results`; writes ``tables-stress.json`` and ``claims-stress.json``.
    """
    from dsaml import tables

    experiment = prepare(profile, cache, "stress")
    jobs = tables.stress_jobs(seeds)
    train_for(experiment, jobs)
    tables.compute(experiment, jobs, results)


def describe_difference(cell: Mapping[str, float]) -> str:
    """A paired difference and its interval in words a page can use."""
    return f"{cell['mean']:+.3f} [{cell['low']:+.3f}, {cell['high']:+.3f}]"


def verdict(payload: Mapping[str, Any]) -> str:
    """One sentence on whether annotator tasks beat fine-tuning and mean-label MAML, in both dimensions; the claims' rule."""
    cells = {
        (other, d): payload["paired"]["against"][other][d] for other in (FINE_TUNED, MAML_MEAN) for d in ev.DIMENSIONS
    }
    corrected = zip(cells.items(), bootstrap.holm([cell["p"] for cell in cells.values()]), strict=True)
    short = [
        f"{other} in {d} ({describe_difference(cell)})"
        for ((other, d), cell), p in corrected
        if not (p < LEVEL and cell["mean"] > 0)
    ]
    if not short:
        return (
            "On unseen simulated listeners, MAML with annotator tasks beats both the fine-tuned non-meta model and MAML on "
            f"mean labels, in arousal and in valence: all four paired CCC differences lie above zero, p < {LEVEL} after Holm's "
            "correction."
        )
    return (
        f"The result does not hold everywhere: no clear advantage of MAML with annotator tasks over {'; '.join(short)}."
    )
