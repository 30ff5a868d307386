"""Scores of trained models: the inner loop chosen on validation listeners, the scores on test listeners, kept on disk.

A row of a table is a model under a way to use it: as it is, adapted to a listener, with more songs. Scores are kept beside the
checkpoints, under a hash of the model, its settings and the code that trains and scores.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import delayed

from dsaml.closure import code_digest
from dsaml.config import MetaConfig
from dsaml.evaluate import evaluation as ev
from dsaml.evaluate import protocols
from dsaml.evaluate.selection import select_inner
from dsaml.experiment.recipes import MAML_ANNOTATOR, NON_META
from dsaml.experiment.rows import AS_TRAINED, BASELINE_MODELS, BEFORE, HEAD_ONLY, SHIFTED, SHOTS, label_of, shots_label
from dsaml.experiment.run import Experiment, parallel, train_all, use_one_core
from dsaml.io import seal, unseal, write_bytes_atomically
from dsaml.learn.batches import SongStore
from dsaml.learn.training import cross_song_tasks
from dsaml.model.dsaml import DSAML

log = logging.getLogger(__name__)

SUPPORTS = (2, protocols.SUPPORTS)  # support sets of a validation listener, for that choice, and of a test listener
BASELINE_SUPPORTS = (1, 2)  # the same for a baseline, which adapts as a whole, from the slices on

Job = tuple[str, str, int]
"""Kind of score ("dmer" or "pdmer"), model, training seed."""


def _store(experiment: Experiment, name: str, model: DSAML, config: MetaConfig) -> SongStore:
    """Songs for a model, as far computed as adaptation leaves them alone."""
    store = experiment.store_for(name)
    return store.local(model) if config.adapt != "all" else store


Scored = tuple[pd.DataFrame, dict[str, dict[str, Any]]]
"""A scores table with the column ``protocol``; and for each row its song passes and the inner loop it was given."""


def score_dmer(experiment: Experiment, name: str, seed: int) -> Scored:
    """Traditional DMER of one model."""
    model, _ = experiment.model(name, seed)
    table = protocols.dmer(experiment.store_for(name), experiment.inputs(name), model, name, seed)
    return table.assign(protocol="dmer"), {name: {"song_passes": experiment.song_passes(name, seed)}}


def score_pdmer(experiment: Experiment, name: str, seed: int) -> Scored:
    """Both PDMER protocols of one model (a baseline: cross-song alone), with the inner loop that validation chose.

    A model without MAML is scored as it is and fine-tuned on the support, each with the checkpoint that was best at that; the
    non-meta model also shifted by the support mean. MAML with annotator tasks is scored also before adaptation, with the inner
    loop of its training, with the head alone adapted, and with more support songs.
    """
    recipe, label = experiment.recipes[name], label_of(name)
    meta, baseline = isinstance(recipe.training, MetaConfig), name in BASELINE_MODELS
    model, _ = experiment.model(name, seed, adapted=not meta)
    store, supports = _store(experiment, name, model, recipe.adaptation), BASELINE_SUPPORTS if baseline else SUPPORTS
    about: dict[str, dict[str, Any]] = {}
    parts: list[pd.DataFrame] = []
    passes = experiment.song_passes(name, seed)

    def select(row: str, settings: MetaConfig, songs: int = 1) -> MetaConfig:
        settings, grid = select_inner(store, model, settings, supports[0], songs)
        about[row] = {"inner_lr": settings.inner_lr, "inner_steps": settings.inner_steps, "grid": grid}
        return settings

    def cross(row: str, settings: MetaConfig, steps: int | None = None, songs: int = 1) -> None:
        table = protocols.cross_song(store, model, settings, row, seed, steps=steps, songs=songs, supports=supports[1])
        parts.append(table.assign(protocol="cross-song"))

    config = select(label, recipe.adaptation)
    cross(label, config)
    if name == MAML_ANNOTATOR:
        cross(BEFORE, config, steps=0)
        cross(AS_TRAINED, recipe.adaptation)
        for songs in SHOTS[1:]:
            cross(shots_label(songs), select(shots_label(songs), recipe.adaptation, songs), songs=songs)
        cross(HEAD_ONLY, select(HEAD_ONLY, dataclasses.replace(recipe.adaptation, adapt="head")))
    plain, features = experiment.store_for(name), experiment.inputs(name)
    if not baseline:  # adapting each of them to every long song takes hours
        parts.append(protocols.prefix(plain, features, model, config, label, seed).assign(protocol="prefix"))
    if not meta:  # as it is, with the checkpoint that was best as it is
        model, _ = experiment.model(name, seed)
        store = _store(experiment, name, model, recipe.adaptation)
        cross(name, config, steps=0)
        if not baseline:
            table = protocols.prefix(plain, features, model, config, name, seed, steps=0)
            parts.append(table.assign(protocol="prefix"))
    if name == NON_META:
        tasks = cross_song_tasks(store, "test", protocols.SUPPORTS)
        shifted = ev.score_tasks(ev.shifted_predictor(model, store), store, tasks, SHIFTED, seed)
        parts.append(shifted.assign(protocol="cross-song"))
    table = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return table, {row: {"song_passes": passes} | about.get(row, {}) for row in table.method.unique()}


def scores_file(experiment: Experiment, job: Job) -> Path:
    """Where the scores of a job are kept: named by the model, its settings and the code that trains and scores."""
    kind, name, seed = job
    model = experiment.checkpoint(name, seed).name
    key = hashlib.sha256(f"{kind} {model} {experiment.recipes[name].adaptation} {code_digest('dsaml.experiment.scoring')}".encode())
    return experiment.checkpoints / f"scores-{key.hexdigest()[:20]}.json"


def train_for(experiment: Experiment, jobs: Iterable[Job], workers: int = 2) -> None:
    """Train the models of those jobs whose scores are not kept yet."""
    train_all(experiment, {job[1:] for job in jobs if not scores_file(experiment, job).is_file()}, workers)


def _scored(experiment: Experiment, job: Job) -> Scored:
    """Scores from the cache, or computed and kept."""
    use_one_core()
    path = scores_file(experiment, job)
    if path.is_file():
        try:
            stored = json.loads(unseal(path.read_bytes()))
            return pd.DataFrame(stored["table"]).astype({"annotator": str, "song": str}), stored["about"]
        except ValueError as error:
            log.warning("%s: damaged (%s); computed again", path, error)
    started = time.perf_counter()
    kind, name, seed = job
    table, about = {"dmer": score_dmer, "pdmer": score_pdmer}[kind](experiment, name, seed)
    write_bytes_atomically(path, seal(json.dumps({"table": table.to_dict("list"), "about": about}).encode()))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    log.info("scores of %s (%s), seed %d: %.0f s", name, kind, seed, time.perf_counter() - started)
    return table, about


def score_all(
    experiment: Experiment, jobs: Iterable[Job], workers: int = 2
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """Scores of many jobs; and for each row its song passes and inner loop, ``{seed: {row: {...}}}``."""
    jobs = list(jobs)
    parts = parallel(workers)(delayed(_scored)(experiment, job) for job in jobs)
    chosen: dict[str, dict[str, Any]] = {}
    for (_, _, seed), (_, about) in zip(jobs, parts, strict=True):
        chosen.setdefault(str(seed), {}).update(about)
    return pd.concat([part[0] for part in parts], ignore_index=True), chosen


def fixed_rows(experiment: Experiment) -> dict[str, list[pd.DataFrame]]:
    """Floors and true curves of each protocol: what needs no training."""
    store = experiment.store
    tasks = cross_song_tasks(store, "test", protocols.SUPPORTS)
    out = {"dmer": protocols.dmer_floors(store), "prefix": protocols.prefix_floors(store)}
    rows = ev.floor_predictors(store) | ev.oracle_predictors(store)
    out["cross-song"] = [ev.score_tasks(predictor, store, tasks, name, ev.UNTRAINED) for name, predictor in rows.items()]
    return out
