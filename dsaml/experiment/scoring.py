"""Scores of trained models: the inner loop chosen on validation listeners, the scores on test listeners, kept on disk.

Scores are kept beside the checkpoints, under a hash of the model, its settings and the code that trains and scores.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import delayed

from dsaml.evaluate import protocols
from dsaml.experiment.rows import BASELINE_MODELS, rows_of
from dsaml.experiment.run import Experiment, parallel, train_all, use_one_core
from dsaml.io import seal, unseal, write_bytes_atomically
from dsaml.learn.batches import SongStore
from dsaml.learn.training import cross_song_tasks
from dsaml.model.dsaml import DSAML
from dsaml.runtime.closure import code_digest

log = logging.getLogger(__name__)

SUPPORTS = (2, protocols.SUPPORTS)  # support sets of a validation listener, for that choice, and of a test listener
BASELINE_SUPPORTS = (1, 2)  # the same for a baseline, which adapts as a whole, from the slices on

Job = tuple[str, str, int]
"""Kind of score ("dmer" or "pdmer"), model, training seed."""

Scored = tuple[pd.DataFrame, dict[str, dict[str, Any]]]
"""A scores table with the column ``protocol``; and for each row its song passes and the inner loop it was given."""


def score_dmer(experiment: Experiment, name: str, seed: int) -> Scored:
    """Traditional DMER of one model."""
    model, _ = experiment.model(name, seed)
    scores = protocols.dmer(experiment.store_for(name), experiment.inputs(name), model, name, seed)
    return scores.assign(protocol="dmer"), {name: {"song_passes": experiment.song_passes(name, seed)}}


def score_pdmer(experiment: Experiment, name: str, seed: int) -> Scored:
    """Every row of one model (:func:`dsaml.experiment.rows.rows_of`), cross-song and by prefix.

    A row of several support songs is left out where no listener has as many and one to be asked about.
    """
    validation, test = BASELINE_SUPPORTS if name in BASELINE_MODELS else SUPPORTS
    adaptation, passes = experiment.recipes[name].adaptation, experiment.song_passes(name, seed)
    ready, parts, about = cache(partial(with_songs, experiment, name, seed)), [], {}
    for row in rows_of(name):
        model, store = ready(row.adapted)
        if row.songs > 1 and not all(cross_song_tasks(store, part, 1, row.songs) for part in ("validation", "test")):
            continue
        config = dataclasses.replace(adaptation, adapt="head") if row.head_only else adaptation
        about[row.name] = {"song_passes": passes}
        if row.inner == "chosen":
            config, chosen = protocols.select_inner(store, model, config, validation, row.songs)
            about[row.name] |= chosen
        elif row.inner == "none":
            config = dataclasses.replace(config, inner_steps=0)
        if row.inner == "shift":
            scores = protocols.cross_song_shifted(store, model, row.name, seed)
        else:
            scores = protocols.cross_song(store, model, config, row.name, seed, row.songs, test)
        parts.append(scores.assign(protocol="cross-song"))
        if row.prefix:
            songs, features = experiment.store_for(name), experiment.inputs(name)
            scores = protocols.prefix(songs, features, model, config, row.name, seed)
            parts.append(scores.assign(protocol="prefix"))
    return pd.concat([part for part in parts if len(part)], ignore_index=True), about


def with_songs(experiment: Experiment, name: str, seed: int, adapted: bool) -> tuple[DSAML, SongStore]:
    """A trained model (``adapted`` as in :class:`Row`), and the songs for it, as far computed as adaptation leaves them alone."""
    model, _ = experiment.model(name, seed, adapted)
    store = experiment.store_for(name)
    return model, store if experiment.recipes[name].adaptation.adapt == "all" else store.local(model)


def scores_file(experiment: Experiment, job: Job) -> Path:
    """Where the scores of a job are kept: named by the model, its settings and the code that trains and scores."""
    kind, name, seed = job
    model = experiment.checkpoint(name, seed).name
    text = f"{kind} {model} {experiment.recipes[name].adaptation} {code_digest('dsaml.experiment.scoring')}"
    return experiment.checkpoints / f"scores-{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"


def train_for(experiment: Experiment, jobs: Iterable[Job], workers: int | None = None) -> None:
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
    scores, about = {"dmer": score_dmer, "pdmer": score_pdmer}[kind](experiment, name, seed)
    write_bytes_atomically(path, seal(json.dumps({"table": scores.to_dict("list"), "about": about}).encode()))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    log.info("scores of %s (%s), seed %d: %.0f s", name, kind, seed, time.perf_counter() - started)
    return scores, about


def score_all(experiment: Experiment, jobs: Iterable[Job], workers: int | None = None) -> Scored:
    """Scores of many jobs; and for each row its song passes and inner loop, ``{seed: {row: {...}}}``."""
    jobs = list(jobs)
    parts = parallel(workers or experiment.workers)(delayed(_scored)(experiment, job) for job in jobs)
    chosen: dict[str, dict[str, Any]] = {}
    for (_, _, seed), (_, about) in zip(jobs, parts, strict=True):
        chosen.setdefault(str(seed), {}).update(about)
    return pd.concat([part[0] for part in parts], ignore_index=True), chosen


def fixed_scores(experiment: Experiment) -> pd.DataFrame:
    """Floors and true curves of every protocol, with the column ``protocol``: what needs no training."""
    store = experiment.store
    tables = [t.assign(protocol=name) for name in protocols.PROTOCOLS for t in protocols.fixed_rows(store, name)]
    return pd.concat([scores for scores in tables if len(scores)], ignore_index=True)
