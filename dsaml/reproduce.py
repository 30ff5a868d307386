"""From data to result files: training, selection on validation listeners, scores on test listeners, tables.

Every trained model and every score is kept under ``cache/runs``, in a folder named by settings, data and training code. A second
call, or a call after a kill, computes only what is missing. Display reads the result files and nothing else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import delayed

from dsaml import bootstrap, protocols
from dsaml import evaluation as ev
from dsaml.baselines import BASELINES
from dsaml.batches import SongStore
from dsaml.config import MetaConfig, Profile
from dsaml.experiment import Experiment, parallel, prepare, train_all, use_one_core
from dsaml.model import DSAML
from dsaml.recipes import (
    ABLATIONS,
    ANNOTATOR_LABELS,
    MAML_ANNOTATOR,
    MAML_MEAN,
    NO_ATTENTION_LOSS,
    NON_META,
    SUPERVISED,
    baseline_name,
    digest,
)
from dsaml.results import provenance, write_bytes_atomically, write_result
from dsaml.training import cross_song_tasks, mean_ccc, predict_along, query_labels

log = logging.getLogger(__name__)

FINE_TUNED, SHIFTED = "non-meta model, fine-tuned", "non-meta model, shifted by the support mean"
HEAD_ONLY = "MAML, annotator tasks, head only (ANIL)"
DEMO_MODELS = (SUPERVISED, NO_ATTENTION_LOSS, NON_META, MAML_MEAN, MAML_ANNOTATOR)  # what make book trains
BASELINE_MODELS = tuple(baseline_name(name, meta) for name in BASELINES for meta in (False, True))  # Table 2

SELECTION_SUPPORTS = 2  # one-song support sets per validation listener, for the choice of the inner loop
INNER_LRS, INNER_STEPS = (0.01, 0.03, 0.1, 0.2), (1, 3, 5, 10, 20)  # inner-loop settings tried on validation listeners
BASELINE_SUPPORTS = (1, 2)  # the same for a baseline, and its support sets per test listener: it adapts task by task
SHOTS = (1, 3, 5)  # songs in the support set
SCORING_CODE = ("evaluation", "metrics", "protocols", "reproduce", "windows")


def with_inner(config: MetaConfig, inner_lr: float, inner_steps: int) -> MetaConfig:
    """The same settings with another inner loop."""
    return dataclasses.replace(config, inner_lr=inner_lr, inner_steps=inner_steps)


def select_inner(
    store: SongStore, model: DSAML, config: MetaConfig, supports: int = SELECTION_SUPPORTS
) -> tuple[MetaConfig, list[dict[str, float]]]:
    """Inner learning rate and steps with the best mean CCC on the *validation* listeners; the grid is returned as well."""
    tasks = cross_song_tasks(store, "validation", supports)
    target = query_labels(store, tasks)
    grid = []
    for inner_lr in INNER_LRS:
        settings = dataclasses.replace(config, inner_lr=inner_lr)
        for steps, predictions in predict_along(model, store, tasks, settings, INNER_STEPS).items():
            grid.append({"inner_lr": inner_lr, "inner_steps": steps, "ccc": mean_ccc(predictions, target)})
    best = max(grid, key=lambda row: row["ccc"])
    return with_inner(config, best["inner_lr"], best["inner_steps"]), grid


def adaptation_store(experiment: Experiment, name: str, model: DSAML, config: MetaConfig) -> SongStore:
    """Songs for a model, as far computed as adaptation leaves them alone."""
    store = experiment.store_for(name)
    return store.local(model) if config.adapt != "all" else store


def score_dmer(experiment: Experiment, name: str, seed: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Traditional DMER of one model."""
    model, _ = experiment.model(name, seed)
    table = protocols.dmer(experiment.store_for(name), experiment.inputs(name), model, name, seed)
    return table.assign(protocol="dmer"), {}


def score_pdmer(experiment: Experiment, name: str, seed: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Both PDMER protocols of one model (a baseline: cross-song alone), with the inner loop that validation chose.

    A model without MAML is scored as it is and fine-tuned on the support; the non-meta model also shifted by the support mean;
    MAML with annotator tasks also before adaptation, with the head alone adapted, and with more support songs.
    """
    model, _ = experiment.model(name, seed)
    config = experiment.meta(name)
    store = adaptation_store(experiment, name, model, config)
    few = BASELINE_SUPPORTS if name in BASELINE_MODELS else (SELECTION_SUPPORTS, protocols.SUPPORTS)
    config, grid = select_inner(store, model, config, few[0])
    chosen = {label_of(name): {"inner_lr": config.inner_lr, "inner_steps": config.inner_steps, "grid": grid}}
    meta = isinstance(experiment.recipes[name].training, MetaConfig)

    def cross(label: str, settings: MetaConfig, steps: int | None = None, songs: int = 1) -> pd.DataFrame:
        table = protocols.cross_song(
            store, model, settings, label, seed, steps=steps, songs=songs, supports=few[1] if songs == 1 else 2
        )
        return table.assign(protocol="cross-song")

    parts = [cross(label_of(name), config)]
    if not meta:
        parts.append(cross(name, config, steps=0))
    if name == NON_META:
        tasks = cross_song_tasks(store, "test", protocols.SUPPORTS)
        shifted = ev.score_tasks(ev.shifted_predictor(model, store), store, tasks, SHIFTED, seed)
        parts.append(shifted.assign(protocol="cross-song"))
    if name == MAML_ANNOTATOR:
        parts.append(cross(f"{name}, before", config, steps=0))
        parts += [cross(shots_label(songs), config, songs=songs) for songs in SHOTS[1:]]
        head = dataclasses.replace(config, adapt="head")
        head, head_grid = select_inner(store, model, head)
        chosen[HEAD_ONLY] = {"inner_lr": head.inner_lr, "inner_steps": head.inner_steps, "grid": head_grid}
        parts.append(cross(HEAD_ONLY, head))
    if name in BASELINE_MODELS:  # adapting each of them to every long song takes hours
        return pd.concat(parts, ignore_index=True), chosen
    plain, features = experiment.store_for(name), experiment.inputs(name)
    parts.append(protocols.prefix(plain, features, model, config, label_of(name), seed).assign(protocol="prefix"))
    if not meta:
        table = protocols.prefix(plain, features, model, config, name, seed, steps=0)
        parts.append(table.assign(protocol="prefix"))
    return pd.concat([part for part in parts if len(part)], ignore_index=True), chosen


def label_of(name: str) -> str:
    """The row of a model after adaptation: MAML's own name, or "…, fine-tuned"."""
    return name if name in (MAML_MEAN, MAML_ANNOTATOR) or name.endswith(", MAML") else f"{name}, fine-tuned"


def shots_label(songs: int) -> str:
    """The row of annotator-task MAML with more than one support song."""
    return MAML_ANNOTATOR if songs == 1 else f"{MAML_ANNOTATOR}, {songs} songs"


def scores_file(experiment: Experiment, kind: str, name: str, seed: int) -> Path:
    """Where the scores of a job are kept: named by the model, the seed and the code that scores."""
    here = Path(__file__).parent
    key = hashlib.sha256(f"{kind} {digest(experiment.recipes, name)} {seed}".encode())
    for module in SCORING_CODE:
        key.update((here / f"{module}.py").read_bytes())
    return experiment.runs / f"scores-{key.hexdigest()[:20]}.json"


def train_for(experiment: Experiment, jobs: Iterable[tuple[str, str, int]], workers: int = 2) -> None:
    """Train the models of those (kind, name, seed) whose scores are not kept yet."""
    train_all(experiment, {job[1:] for job in jobs if not scores_file(experiment, *job).is_file()}, workers)


def _scored(experiment: Experiment, kind: str, name: str, seed: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Scores from the cache, or computed and kept."""
    use_one_core()
    path = scores_file(experiment, kind, name, seed)
    if path.is_file():
        stored = json.loads(path.read_text(encoding="utf-8"))
        table = pd.DataFrame(stored["table"]).astype({"annotator": str, "song": str})
        return table, stored["chosen"]
    started = time.perf_counter()
    table, chosen = {"dmer": score_dmer, "pdmer": score_pdmer}[kind](experiment, name, seed)
    text = json.dumps({"table": table.to_dict("list"), "chosen": chosen})
    write_bytes_atomically(path, text.encode())
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    log.info("scores of %s (%s), seed %d: %.0f s", name, kind, seed, time.perf_counter() - started)
    return table, chosen


def score_all(
    experiment: Experiment, jobs: Iterable[tuple[str, str, int]], workers: int = 2
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """Scores of many (kind, name, seed), and the inner loops chosen on validation: ``{seed: {row: settings}}``."""
    jobs = list(jobs)
    parts = parallel(workers)(delayed(_scored)(experiment, *job) for job in jobs)
    chosen: dict[str, dict[str, Any]] = {}
    for (_, _, seed), (_, selection) in zip(jobs, parts, strict=True):
        chosen.setdefault(str(seed), {}).update(selection)
    return pd.concat([part[0] for part in parts], ignore_index=True), chosen


def fixed_rows(experiment: Experiment) -> dict[str, list[pd.DataFrame]]:
    """Floors and oracles of each protocol: what needs no training."""
    store = experiment.store
    tasks = cross_song_tasks(store, "test", protocols.SUPPORTS)
    out = {"dmer": protocols.dmer_floors(store), "prefix": protocols.prefix_floors(store)}
    rows = ev.floor_predictors(store) | ev.oracle_predictors(store)
    out["cross-song"] = [ev.score_tasks(rule, store, tasks, name, ev.UNTRAINED) for name, rule in rows.items()]
    return out


def order_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Floors first, then models from the trivial to the best, oracles last."""
    rank = [
        *("constant (training mean)", "the song's own mean (oracle)", "support mean", "last support value"),
        *(label for name in BASELINES for label in _baseline_labels(name)),
        *(NON_META, SHIFTED, FINE_TUNED, ANNOTATOR_LABELS, label_of(ANNOTATOR_LABELS), MAML_MEAN),
        *(f"{MAML_ANNOTATOR}, before", HEAD_ONLY, MAML_ANNOTATOR, *(shots_label(n) for n in SHOTS[1:])),
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
    jobs: list[tuple[str, str, int]] | None = None,
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


def describe_difference(cell: Mapping[str, float]) -> str:
    """A paired difference and its interval in words a page can use."""
    return f"{cell['mean']:+.3f} [{cell['low']:+.3f}, {cell['high']:+.3f}]"


def verdict(payload: Mapping[str, Any]) -> str:
    """One sentence on whether annotator tasks beat fine-tuning and mean-label MAML, in both dimensions."""
    cells = {
        (other, d): payload["paired"]["against"][other][d] for other in (FINE_TUNED, MAML_MEAN) for d in ev.DIMENSIONS
    }
    short = [f"{other} in {d} ({describe_difference(cell)})" for (other, d), cell in cells.items() if cell["low"] <= 0]
    if not short:
        return (
            "On unseen simulated listeners, MAML with annotator tasks beats both the fine-tuned non-meta model and MAML on "
            "mean labels, in arousal and in valence: all four paired 95 % intervals of the CCC difference lie above zero."
        )
    return (
        f"The result does not hold everywhere: no clear advantage of MAML with annotator tasks over {'; '.join(short)}."
    )
