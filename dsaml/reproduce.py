"""From data to result files: features, training, selection on validation listeners, scores on test listeners.

Every trained model is a checkpoint under ``cache/runs``, in a folder named by a hash of settings, data and training code. A
second call, or a call after a kill, trains only what is missing. Display reads the result files and nothing else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from joblib import Parallel, delayed

from dsaml import evaluation as ev
from dsaml.batches import SongStore
from dsaml.config import MetaConfig, Profile
from dsaml.datasets import Dataset, Split, load_dataset, synthetic
from dsaml.encoders import GlobalEncoder, make_encoder
from dsaml.errors import DsamlError
from dsaml.features import FeatureCache, Features
from dsaml.loop import History, Run
from dsaml.model import DSAML
from dsaml.progress import counter, training_bar
from dsaml.results import provenance, write_result
from dsaml.training import (
    cross_song_tasks,
    mean_ccc,
    predict_tasks,
    query_labels,
    train_maml,
    train_supervised,
)

log = logging.getLogger(__name__)

WARM_START, NON_META = "warm start", "non-meta model"
MAML_MEAN, MAML_ANNOTATOR = "MAML, mean-label tasks (Eq. 5)", "MAML, annotator tasks (Eq. 6)"
NO_ATTENTION_LOSS = "warm start, w.o. Attention-Loss"
FINE_TUNED, SHIFTED = "non-meta model, fine-tuned", "non-meta model, shifted by the support mean"
TRAINED = (WARM_START, NO_ATTENTION_LOSS, NON_META, MAML_MEAN, MAML_ANNOTATOR)

SUPPORTS = 5  # one-song support sets per listener, for selection and for the test
INNER_LRS, INNER_STEPS = (0.01, 0.03, 0.1, 0.2), (1, 3, 5, 10, 20)  # inner-loop settings tried on validation listeners
_TRAINING_CODE = ("batches", "layers", "loop", "losses", "maml", "model", "tasks", "training")


@dataclass(frozen=True)
class Experiment:
    """A profile on a data set: features in memory, trained models on disk."""

    profile: Profile
    dataset: Dataset
    features: Mapping[str, Features]
    runs: Path  # folder of the checkpoints
    run: Run = field(default_factory=lambda: Run(resume=True))  # device, precision, logs

    @property
    def store(self) -> SongStore:
        """The songs as 60-step sequences, ready to be stacked, on the run's device."""
        return SongStore(self.dataset, self.features).to(self.run.device)

    def model(self, name: str, seed: int) -> tuple[DSAML, History]:
        """One of ``TRAINED``: trained now, or read from its checkpoint where it is finished."""
        profile = self.profile
        if name in (WARM_START, NO_ATTENTION_LOSS):
            torch.manual_seed(seed)
            weight = 0.0 if name == NO_ATTENTION_LOSS else profile.model.attention_loss_weight
            model, train = DSAML(dataclasses.replace(profile.model, attention_loss_weight=weight)), train_supervised
            config = profile.warm_start
            if config is None:  # the paper has no warm start: MAML begins with random weights
                return model, History()
        else:
            model = self.model(WARM_START, seed)[0]
            train, config = train_maml, self.meta(name)
            if name == NON_META:
                train, config = train_supervised, profile.supervised
        per_step = config.tasks_per_step if train is train_maml else config.batch_size
        file = "".join(c if c.isalnum() else "-" for c in name.lower())
        with training_bar(f"{name}, seed {seed}", per_step, "task" if train is train_maml else "song") as progress:
            run = dataclasses.replace(self.run, checkpoint=self.runs / f"{file}-{seed}.pt", progress=progress)
            history = train(model, self.store, config, seed=seed, validate_every=profile.validate_every, run=run)
        return model, history

    def meta(self, name: str) -> MetaConfig:
        """Task construction that a name stands for."""
        return dataclasses.replace(self.profile.meta, tasks="random" if name == MAML_MEAN else "annotator")


def prepare(
    profile: Profile,
    cache: Path,
    dataset: str = "synthetic",
    root: Path | None = None,
    encoder: GlobalEncoder | None = None,
    workers: int = 2,
) -> Experiment:
    """A data set with its features; by default the embedded corpus, which is made under ``cache`` if it is not there.

    Songs without audio are left out, with a count in the log.

    Raises
    ------
    DsamlError
        If the data set or its audio is unusable.
    """
    started = time.perf_counter()
    if root is None:
        with counter("corpus") as progress:
            root = synthetic.synthesize(cache / "corpus", workers=workers, progress=progress)
    data = load_dataset(dataset, root)
    features = FeatureCache(cache / "features", profile.audio, encoder or make_encoder(profile, None))
    wanted = [song for part in data.split.songs.values() for song in part if song in data.mean]
    songs = {
        s: (data.songs[s], len(data.mean[s])) for s in wanted if s in data.songs and data.songs[s].audio is not None
    }
    if len(songs) < len(wanted):
        log.warning(
            "%d of %d songs have no audio under %s and are left out", len(wanted) - len(songs), len(wanted), root
        )
    split = Split(
        {part: tuple(s for s in ids if s in songs) for part, ids in data.split.songs.items()}, data.split.annotators
    )
    if empty := [part for part, ids in split.songs.items() if not ids]:
        raise DsamlError(
            f"{root}: no song with audio and labels in the part {', '.join(empty)}; 'check' lists what is missing"
        )
    with counter("features") as progress:
        made = features.fill(songs, workers, progress)
    log.info("features of %d songs: %.0f s", len(songs), time.perf_counter() - started)
    digest = hashlib.sha256(f"{profile.digest()} {features.encoder.fingerprint} {split}".encode())
    for song in songs:
        digest.update(data.mean[song].values.tobytes())
        digest.update(made[song].log_mel.numpy().tobytes())
    for name in _TRAINING_CODE:
        digest.update((Path(__file__).parent / f"{name}.py").read_bytes())
    runs = cache / "runs" / digest.hexdigest()[:12]
    return Experiment(profile, dataclasses.replace(data, split=split), made, runs)


def _train(experiment: Experiment, name: str, seed: int) -> None:
    torch.set_num_threads(1)  # two processes of one thread use two cores best
    started = time.perf_counter()
    history = experiment.model(name, seed)[1]
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    seconds = time.perf_counter() - started
    log.info("%s, seed %d: %.0f s, best validation at step %d", name, seed, seconds, history.best_step)


def train_all(experiment: Experiment, seeds: tuple[int, ...], workers: int = 2) -> None:
    """Train every model of ``TRAINED`` that is not on disk yet, ``workers`` at a time."""
    for stage in ((WARM_START, NO_ATTENTION_LOSS), (MAML_ANNOTATOR, MAML_MEAN, NON_META)):
        Parallel(n_jobs=workers)(delayed(_train)(experiment, name, seed) for seed in seeds for name in stage)


def with_inner(config: MetaConfig, inner_lr: float, inner_steps: int) -> MetaConfig:
    """The same settings with another inner loop."""
    return dataclasses.replace(config, inner_lr=inner_lr, inner_steps=inner_steps)


def select_inner(experiment: Experiment, model: DSAML, config: MetaConfig) -> tuple[MetaConfig, list[dict[str, float]]]:
    """Inner learning rate and steps with the best mean CCC on the *validation* listeners; the grid is returned as well."""
    store = experiment.store.local(model) if config.adapt != "all" else experiment.store
    tasks = cross_song_tasks(store, "validation", SUPPORTS)
    target = query_labels(store, tasks)
    grid = []
    for inner_lr in INNER_LRS:
        for steps in INNER_STEPS:
            settings = with_inner(config, inner_lr, steps)
            ccc = mean_ccc(predict_tasks(model, store, tasks, settings), target)
            grid.append({"inner_lr": inner_lr, "inner_steps": steps, "ccc": ccc})
    best = max(grid, key=lambda row: row["ccc"])
    return with_inner(config, best["inner_lr"], best["inner_steps"]), grid


def evaluate_fixed(experiment: Experiment, rows: Mapping[str, ev.Predictor], seed: int) -> list[pd.DataFrame]:
    """Scores of predictors without training (floors, oracles) on the test tasks."""
    store = experiment.store
    tasks = cross_song_tasks(store, "test", SUPPORTS)
    return [ev.score_tasks(predictor, store, tasks, name, seed) for name, predictor in rows.items()]


def evaluate_model(experiment: Experiment, name: str, seed: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Cross-song PDMER of one trained model on test listeners and songs, and the inner loop that validation chose.

    The non-meta model gives three rows: as it is, fine-tuned on the support song, and shifted by the support mean.
    """
    torch.set_num_threads(1)
    model, _ = experiment.model(name, seed)
    config, grid = select_inner(experiment, model, experiment.meta(name))
    store = experiment.store.local(model) if config.adapt != "all" else experiment.store
    tasks = cross_song_tasks(store, "test", SUPPORTS)
    if name == NON_META:
        rows = {
            NON_META: ev.model_predictor(model, store, config, steps=0),
            SHIFTED: ev.shifted_predictor(model, store),
        }
        rows |= {FINE_TUNED: ev.model_predictor(model, store, config)}
    else:
        rows = {name: ev.model_predictor(model, store, config)}
    scores = pd.concat([ev.score_tasks(p, store, tasks, label, seed) for label, p in rows.items()], ignore_index=True)
    return scores, {"inner_lr": config.inner_lr, "inner_steps": config.inner_steps, "grid": grid}


def pdmer(experiment: Experiment, seeds: tuple[int, ...], results: Path, workers: int = 2) -> dict[str, Any]:
    """Train, evaluate, write ``pdmer.json`` and ``scores.csv``; returns what was written."""
    started = time.perf_counter()
    train_all(experiment, seeds, workers)
    jobs = [(name, seed) for seed in seeds for name in (MAML_ANNOTATOR, MAML_MEAN, NON_META)]
    parts = Parallel(n_jobs=workers)(delayed(evaluate_model)(experiment, *job) for job in jobs)
    store = experiment.store
    floors = evaluate_fixed(experiment, ev.floor_predictors(store), seeds[0])
    oracles = evaluate_fixed(experiment, ev.oracle_predictors(store), seeds[0])
    models = [part[0] for part in reversed(parts)]
    table = pd.concat([*floors, *models, *oracles], ignore_index=True)  # from the trivial to the best
    chosen: dict[str, dict[str, Any]] = {str(seed): {} for seed in seeds}
    for (name, seed), (_, selection) in zip(jobs, parts, strict=True):
        chosen[str(seed)][FINE_TUNED if name == NON_META else name] = selection
    summary = ev.summarize(table)
    others = [name for name in table.method.unique() if name != MAML_ANNOTATOR]
    payload = {
        "protocol": {
            "name": "cross-song",
            "support": f"one other song of the unseen listener; {SUPPORTS} choices per listener, averaged",
            "query": "the first 60 labels (15-45 s) of each other test song of the listener",
            "listeners": table.annotator.nunique(),
            "songs": table.song.nunique(),
            "intervals": "95 %, hierarchical bootstrap: listeners, then songs of each listener, then training seeds",
        },
        "rows": summary,
        "paired": {"method": MAML_ANNOTATOR, "metric": "ccc", "against": ev.compare(table, MAML_ANNOTATOR, others)},
        "gap_closed": ev.gap_closed(summary, MAML_ANNOTATOR) if experiment.dataset.oracle else None,
        "selection": chosen,
    }
    results.mkdir(parents=True, exist_ok=True)
    table.to_csv(results / "scores.csv", index=False, float_format="%.6f")
    stamp = provenance(experiment.profile, experiment.dataset, seeds=list(seeds), seconds=time.perf_counter() - started)
    write_result(results / "pdmer.json", payload, stamp)
    return payload


def demo_results(profile: Profile, results: Path, cache: Path, seeds: tuple[int, ...] | None = None) -> None:
    """Every result file of the book, on the embedded corpus (the compute step of ``make book``).

    Parameters
    ----------
    profile : Profile
    results : Path
        Folder of the result files, ``results/<profile>``.
    cache : Path
        Corpus, features and checkpoints.
    seeds : tuple of int, optional
        Training seeds; the profile's by default.
    """
    from dsaml import exhibits

    seeds = profile.seeds if seeds is None else seeds
    experiment = prepare(profile, cache)
    payload = pdmer(experiment, seeds, results)
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
