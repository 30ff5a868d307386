"""What adapting the head alone loses at the paper's width: seconds and scores, on a model of D = 1024 trained here.

The model is trained on the averaged labels of the embedded corpus (without MAML, which takes a GPU at this size), on the demo's
smaller log-mel slices. Then each test listener's one song adapts it with the paper's 16 inner steps.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.common import Progress, machine
from benchmarks.engine import ADAPT
from dsaml.config import DEMO, DIMENSIONS, PAPER, MetaConfig, SupervisedConfig
from dsaml.evaluate import bootstrap, protocols
from dsaml.experiment.prepare import Source, prepare
from dsaml.experiment.run import Experiment
from dsaml.learn.loop import TrainingOptions
from dsaml.learn.training import cross_song_tasks, mean_ccc, predict_tasks, query_labels, train_supervised
from dsaml.model.dsaml import DSAML

TRAINING = SupervisedConfig(steps=80, batch_size=16, learning_rate=3e-4, clip_norm=1.0, schedule="cosine", patience=4)
MODEL = dataclasses.replace(PAPER.model, slice_shape=DEMO.model.slice_shape, dropout=DEMO.model.dropout)
PROFILE = dataclasses.replace(DEMO, name="demo, D = 1024", model=MODEL, supervised=TRAINING)
META = MetaConfig(inner_steps=PAPER.meta.inner_steps)
RATES = (META.inner_lr, 0.02, 0.1)  # the paper's, and two larger ones; tried on validation listeners


def trained(experiment: Experiment) -> tuple[DSAML, float]:
    """The model and its validation CCC; from its checkpoint where training is finished."""
    torch.manual_seed(0)
    model = DSAML(MODEL)
    file = experiment.checkpoints / "bench-quality-0.pt"
    options = TrainingOptions(checkpoint=file, resume=True, save_every=20, validate_every=20)
    history = train_supervised(model, experiment.store, TRAINING, options)
    return model.eval(), max(score for _, score in history.validation)


def adapted(experiment: Experiment, model: DSAML, adapt: str) -> dict[str, Any]:
    """Scores on the test listeners, one support song each, with the rate that is best on validation listeners."""
    store = experiment.store
    store = store if adapt == "all" else store.local(model)
    held_out = cross_song_tasks(store, "validation", 1)
    labels, settings = query_labels(store, held_out), dataclasses.replace(META, adapt=adapt)
    tried = {
        rate: mean_ccc(predict_tasks(model, store, held_out, dataclasses.replace(settings, inner_lr=rate)), labels)
        for rate in RATES
    }
    rate = max(tried, key=lambda key: tried[key])
    config = dataclasses.replace(settings, inner_lr=rate)
    start = time.perf_counter()
    scores = protocols.cross_song(store, model, config, adapt, 0, supports=1)
    seconds = (time.perf_counter() - start) / scores.annotator.nunique()
    return {"inner_lr": rate, "seconds_per_listener": seconds, "ccc": intervals(scores, adapt)}


def intervals(scores: pd.DataFrame, method: str) -> dict[str, dict[str, float]]:
    """Mean CCC and its interval, by dimension."""
    crossed = bootstrap.CrossedScores(scores)
    return {d: bootstrap.interval(crossed.of(method, d, "ccc")) for d in DIMENSIONS}


def measure(cache: Path, progress: Progress = lambda what: None) -> dict[str, Any]:
    """Everything that ``data/bench/quality.json`` holds; about 11 minutes on 2 cores, resumable."""
    experiment = prepare(PROFILE, Source(cache=cache))
    progress(f"D = {MODEL.dim}: {TRAINING.steps} supervised steps")
    model, validation = trained(experiment)
    rows = {}
    for adapt in ADAPT:
        progress(f"D = {MODEL.dim}: adapt {adapt}")
        rows[adapt] = adapted(experiment, model, adapt)
    progress("not adapted")
    store = experiment.store.local(model)
    tasks = cross_song_tasks(store, "test", 1)
    config = dataclasses.replace(META, adapt="head", inner_steps=0)
    before = intervals(protocols.cross_song(store, model, config, "before", 0, supports=1), "before")
    return {
        "machine": machine(),
        "dim": MODEL.dim,
        "training_steps": TRAINING.steps,
        "validation_ccc": validation,
        "inner_steps": META.inner_steps,
        "listeners": len(tasks),
        "query_songs": int(np.mean([len(task.query) for task in tasks])),
        "before": before,
        "rows": rows,
    }
