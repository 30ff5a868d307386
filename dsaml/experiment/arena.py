"""The arena's run: every method with every kind of features, trained and chosen without the test part, then scored on it once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import delayed
from safetensors.torch import load_file, save
from torch import Tensor

from dsaml.arena.base import ArenaConfig, Backbone, Personalizer, Prediction
from dsaml.arena.fit import ask, choose, continued, fit, mean_ccc
from dsaml.arena.gradient import FineTuning, Maml
from dsaml.arena.in_context import InContext
from dsaml.arena.inputs import DsamlBackbone, adapter_features, dsaml_features, log_mel_statistics
from dsaml.arena.low_rank import LowRank
from dsaml.arena.methods import METHODS
from dsaml.arena.nothing import Nothing
from dsaml.arena.prototypes import Prototypes
from dsaml.arena.uncertainty import calibrate, uncertainty
from dsaml.arena.world import Asked, World, make_worlds
from dsaml.config import DIMENSIONS, METRICS
from dsaml.data.base import without_short
from dsaml.errors import DsamlError
from dsaml.evaluate import bootstrap, metrics, protocols
from dsaml.experiment.arena_errors import errors_of, in_turn
from dsaml.experiment.prepare import folder_name
from dsaml.experiment.progress import training_bar
from dsaml.experiment.recipes import DMER_MODEL, MAML_ANNOTATOR
from dsaml.experiment.results import provenance, write_result
from dsaml.experiment.run import Experiment, parallel, train_all, use_one_core
from dsaml.experiment.scoring import score_all, train_for
from dsaml.io import seal, unseal, write_bytes_atomically
from dsaml.learn.batches import SongStore
from dsaml.learn.loop import TrainingOptions
from dsaml.learn.training import cross_song_tasks
from dsaml.runtime.closure import code_digest

log = logging.getLogger(__name__)

SMALL, FROZEN, ADAPTER = "log-mel statistics", "DSAML's features, frozen", "DSAML's adapter, frozen"
WHOLE = "DSAML, end to end"
"""What methods hear: what a song's slices look like, through a small backbone; z_l and z' of DSAML, through the same backbone; what
DSAML's adapter makes of a slice before its linear layer, from which z_l and z' come; and DSAML itself, with the method as its
last layer."""
EVIDENCE = {"2 s": (1, 4), "5 s": (1, 10), "10 s": (1, 20), "30 s": (1, 60), "3 songs": (3, 60), "5 songs": (5, 60)}
"""What is known of a listener: songs, and labels of each. "30 s" is the protocol's one song."""
ONE_SONG = "30 s"
VALIDATION_SUPPORTS = 2  # support sets of each validation listener
REPEATS = 20  # of the adaptation that is timed

Tuned = Mapping[str, Any]
"""Settings of training."""
EMPTY: Tuned = MappingProxyType({})
Row = tuple[str, str]
"""What it hears, and the method."""
ROWS: tuple[Row, ...] = (
    *((heard, name) for heard in (SMALL, FROZEN) for name in METHODS),
    *((ADAPTER, name) for name in (Maml.name, Prototypes.name, LowRank.name)),
    (WHOLE, LowRank.name),
)


def label(row: Row) -> str:
    """How a row is called in the result file."""
    return f"{row[1]} | {row[0]}"


def evidence_for(store: SongStore) -> dict[str, tuple[int, int]]:
    """What of ``EVIDENCE`` validation and test listeners rated enough songs for."""
    return {
        name: (songs, labels)
        for name, (songs, labels) in EVIDENCE.items()
        if all(cross_song_tasks(store, part, 1, songs) for part in ("validation", "test"))
    }


def full_clips(experiment: Experiment) -> Experiment:
    """The experiment without songs that are shorter than a clip, which the arena's methods do not take; their number is logged.

    Models that were trained without these songs are kept apart from those of all songs.
    """
    data, songs, _ = without_short(experiment.dataset, experiment.store.steps)
    if data is experiment.dataset:
        return experiment
    if songs:
        log.warning("%d songs of fewer than %d labels are left out of the arena", songs, experiment.store.steps)
    folder = experiment.checkpoints.with_name(folder_name(data, experiment.features))
    return dataclasses.replace(experiment, dataset=data, checkpoints=folder)


def fitting_config(experiment: Experiment) -> ArenaConfig:
    """The arena's budget, with as many query songs in a task as half of the training listeners have, and no more than usual."""
    data, config = experiment.dataset, ArenaConfig()
    listed = set(data.split.songs["train"])
    counts = sorted(len(listed & data.tracks.get(who, {}).keys()) for who in data.split.annotators["train"])
    most = counts[len(counts) // 2] - config.training.support_songs if counts else 1
    if most >= config.training.query_songs:
        return config
    log.warning("tasks of %d support and %d query songs", config.training.support_songs, max(1, most))
    return dataclasses.replace(config, training=dataclasses.replace(config.training, query_songs=max(1, most)))


@dataclass(frozen=True)
class Arena:
    """What all methods share."""

    experiment: Experiment
    config: ArenaConfig = field(default_factory=ArenaConfig)

    def worlds(self, heard: str, seed: int, parts: Sequence[str]) -> dict[str, World]:
        """The worlds of some parts, for a kind of features."""
        return make_worlds(self.experiment.dataset, self.inputs(heard, seed), self.experiment.store.steps, parts)

    def inputs(self, heard: str, seed: int) -> dict[str, Tensor]:
        """What stands for each song; computed once and kept. DSAML's features are those of its training with the same seed."""
        experiment, steps = self.experiment, self.experiment.store.steps
        start = "" if heard == SMALL else experiment.checkpoint(DMER_MODEL, seed).name
        name = hashlib.sha256(f"{heard} {steps} {start} {code_digest('dsaml.arena.inputs')}".encode()).hexdigest()[:20]
        file = experiment.checkpoints / f"arena-inputs-{name}.safetensors"
        if file.is_file():
            return load_file(file)
        if heard == SMALL:
            inputs = log_mel_statistics(experiment.features, steps)
        else:
            model = experiment.model(DMER_MODEL, seed)[0]
            if heard == ADAPTER:
                inputs = adapter_features(model, experiment.features, steps)
            else:
                inputs = dsaml_features(model, experiment.features, steps, context=heard == FROZEN)
        write_bytes_atomically(file, save({song: x.contiguous() for song, x in inputs.items()}))
        return inputs

    def build(self, row: Row, seed: int, train: World, tuned: Tuned = EMPTY) -> Personalizer:
        """A method with random weights, to be trained with the settings ``tuned`` (:meth:`ArenaConfig.tuned`)."""
        (heard, name), config = row, self.config.tuned(tuned)
        torch.manual_seed(seed)
        if heard == WHOLE:
            model = self.experiment.model(DMER_MODEL, seed)[0]
            backbone: torch.nn.Module = DsamlBackbone(model, train.mean, train.deviation, config)
        else:
            backbone = Backbone(train.x.shape[-1], config)
        return METHODS[name](backbone, config)

    def file(self, row: Row, seed: int, kind: str, tuned: Tuned = EMPTY) -> Path:
        """Where something of a row is kept: named by settings, code, and the DSAML that it starts from.

        What is trained depends on the method's own file, not on the others: a new method leaves theirs as it is.
        """
        start = "" if row[0] == SMALL else self.experiment.checkpoint(DMER_MODEL, seed).name
        modules = (METHODS[row[1]].__module__, "dsaml.arena.fit", "dsaml.arena.inputs", *((__name__,) if kind == "json" else ()))
        code = [code_digest(module) for module in modules]
        text = f"{kind} {row} {self.config.tuned(tuned)} {start} {code}"
        return self.experiment.checkpoints / f"arena-{hashlib.sha256(text.encode()).hexdigest()[:20]}-{seed}.{kind}"

    def train(self, row: Row, seed: int, tuned: Tuned = EMPTY) -> tuple[Personalizer, dict[str, Any]]:
        """A trained method and what its training tells; from its checkpoint where there is one. Sees nothing of the test part."""
        heard, name = row
        worlds = self.worlds(heard, seed, ("train", "validation"))
        method, start = self.build(row, seed, worlds["train"], tuned), METHODS[name].start
        if start:
            continued(method, self.train((heard, start), seed, tuned)[0])
        file = self.file(row, seed, "pt", tuned)
        held_out = cross_song_tasks(self.experiment.store, "validation", VALIDATION_SUPPORTS)
        with training_bar(f"{label(row)}, seed {seed}", 1, "step") as progress:
            options = TrainingOptions(checkpoint=file, resume=True, progress=progress, seed=seed)
            history = fit(method, worlds["train"], worlds["validation"], held_out, options)
        return method, {} if history is None else {"best_step": history.best_step, "validation": history.validation}


def _tried(arena: Arena, row: Row, seed: int, tuned: Tuned) -> float:
    """What a way to train comes to on validation listeners in the steps of a search, with the best settings of its grid."""
    use_one_core()
    short = dataclasses.replace(arena, config=arena.config.tuned({"steps": arena.config.search_steps}))
    path = short.file(row, seed, "tried", tuned)
    if path.is_file():
        return json.loads(unseal(path.read_bytes()))["validation"]
    try:
        method = short.train(row, seed, tuned)[0]
        validation = short.worlds(row[0], seed, ("train", "validation"))["validation"]
        asked = validation.batches(cross_song_tasks(arena.experiment.store, "validation", VALIDATION_SUPPORTS))
        score = mean_ccc(method, asked)
    except DsamlError as error:  # diverged: a way to train that does not count
        log.warning("%s with %s: %s", label(row), dict(tuned), error)
        score = -1.0
    write_bytes_atomically(path, seal(json.dumps({"validation": score}).encode()))
    return score


def _search(arena: Arena, rows: Sequence[Row], seed: int, workers: int) -> dict[Row, list[tuple[dict[str, Any], float]]]:
    """Every way to train of every row that has a training of its own, and what it comes to: validation listeners only."""
    own = [row for row in rows if METHODS[row[1]].start is None]
    jobs = [(row, tuned) for row in own for tuned in METHODS[row[1]].trainings]
    jobs.sort(key=lambda job: _quick(job[0]))
    scores = parallel(workers)(delayed(_tried)(arena, row, seed, tuned) for row, tuned in jobs)
    found: dict[Row, list[tuple[dict[str, Any], float]]] = {row: [] for row in own}
    for (row, tuned), score in zip(jobs, scores, strict=True):
        found[row].append((tuned, score))
    return found


def _quick(row: Row) -> bool:
    """Whether a row's training takes little: the others are begun first, so that no core waits for them at the end."""
    return row[0] != WHOLE and not issubclass(METHODS[row[1]], (FineTuning, InContext))


def _trained(arena: Arena, row: Row, seed: int, tuned: Tuned) -> None:
    use_one_core()
    arena.train(row, seed, tuned)


def scores_of(answers: Sequence[Prediction], asked: Sequence[Asked], method: str, seed: int) -> pd.DataFrame:
    """A scores table (see :mod:`dsaml.evaluate.scores`) of answers to tasks."""
    tables = []
    for prediction, part in zip(answers, asked, strict=True):
        who, songs = zip(*((task.annotator, song) for task in part.tasks for song in task.query), strict=True)
        for d, name in enumerate(DIMENSIONS):
            curves, truth = (x[..., d].flatten(0, 1).double().numpy() for x in (prediction.mean, part.target))
            found = {metric: getattr(metrics, metric)(curves, truth) for metric in METRICS}
            tables.append(pd.DataFrame({"annotator": who, "song": songs, "dimension": name, **found}))
    means = pd.concat(tables).groupby(["annotator", "song", "dimension"], as_index=False).mean()
    return means.assign(method=method, seed=seed)


def _scored(arena: Arena, row: Row, seed: int, tuned: Tuned = EMPTY) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Scores of a row on the test part, for ``EVIDENCE``; settings and calibration come from validation, before."""
    use_one_core()
    path = arena.file(row, seed, "json", tuned)
    if path.is_file():
        stored = json.loads(unseal(path.read_bytes()))
        return pd.DataFrame(stored["table"]).astype({"annotator": str, "song": str}), stored["about"]
    (method, about), store = arena.train(row, seed, tuned), arena.experiment.store
    validation = arena.worlds(row[0], seed, ("train", "validation"))["validation"]
    chosen, settings = {}, {}
    if hasattr(method, "belief"):
        about["belief"] = method.belief.tolist()
    known = evidence_for(store)
    for evidence, (songs, labels) in known.items():
        held_out = validation.batches(cross_song_tasks(store, "validation", VALIDATION_SUPPORTS, songs))
        tried = choose(method, held_out, labels)
        settings[evidence] = method.settings
        chosen[evidence] = {"settings": method.settings, "validation_ccc": max(score for _, score in tried)}
        if evidence == ONE_SONG:
            about |= _cost(method, held_out[0])
            if hasattr(method, "calibration"):
                calibrate(method, in_turn(validation, store, "validation"))
    test, tables = arena.worlds(row[0], seed, ("test",))["test"], []  # here for the first time
    for evidence, (songs, labels) in known.items():
        method.settings = settings[evidence]
        asked = test.batches(cross_song_tasks(store, "test", protocols.SUPPORTS, songs))
        answers = ask(method, asked, labels)
        tables.append(scores_of(answers, asked, label(row), seed).assign(evidence=evidence))
        if evidence == ONE_SONG and answers[0].variance is not None:
            about["uncertainty"] = uncertainty(answers, [part.target for part in asked])
            about["errors"] = errors_of(method, {"validation": validation, "test": test}, store)
    scores, about = pd.concat(tables, ignore_index=True), about | {"chosen": chosen}
    write_bytes_atomically(path, seal(json.dumps({"table": scores.to_dict("list"), "about": about}).encode()))
    return scores, about


def _cost(method: Personalizer, asked: Asked) -> dict[str, float]:
    """Milliseconds of one listener's adaptation, features given; bytes that are kept of a listener."""
    with torch.no_grad():
        h, y, seconds = method.encode(asked.x[:1]), asked.y[:1], []
        for _ in range(REPEATS):
            began = time.perf_counter()
            state = method.adapt(h, y)
            seconds.append(time.perf_counter() - began)
    return {"adapt_ms": 1000 * float(np.median(seconds)), "bytes": method.size(state)}


def _rmse_above(scores: pd.DataFrame, rows: Sequence[Row]) -> dict[str, Any]:
    """What each row's RMSE has above that of no adaptation with the same features, paired; Holm corrects over all of them."""
    crossed, out = bootstrap.CrossedScores(scores), {}
    for heard, name in rows:
        floor = (heard, Nothing.name)
        if name != Nothing.name and floor in rows:
            out[label((heard, name))] = bootstrap.compare(crossed, label((heard, name)), [label(floor)], "rmse")[label(floor)]
    bootstrap.correct([cell for cells in out.values() for cell in cells.values()])
    return out


def run_arena(
    experiment: Experiment,
    seeds: Sequence[int],
    results: Path,
    rows: Iterable[Row] = ROWS,
    workers: int | None = None,
    config: ArenaConfig | None = None,
) -> dict[str, Any]:
    """Train, choose and score all rows; write ``arena-<data set>.json``. What is on disk is not computed again.

    ``workers`` processes of one thread work side by side; by default the experiment's own number.

    Returns
    -------
    dict
        For each of ``EVIDENCE`` that listeners rated enough songs for, every row's means and intervals (``evidence``); for one song
        the paired differences between the best row (by validation) and the others, and each row's RMSE above no adaptation with the
        same features (``rmse_above``); each row's adaptation time, bytes and choices (``about``); ``gap_closed``.
    """
    experiment, workers = full_clips(experiment), workers or experiment.workers
    arena, began, rows = Arena(experiment, config or fitting_config(experiment)), time.perf_counter(), list(rows)
    if any(heard != SMALL for heard, _ in rows):
        train_all(experiment, {(DMER_MODEL, seed) for seed in seeds}, workers)
    for heard in {heard for heard, _ in rows}:
        for seed in seeds:
            arena.inputs(heard, seed)
    searched = _search(arena, rows, seeds[0], workers)
    tuned = {row: max(tried, key=lambda pair: pair[1])[0] for row, tried in searched.items()}
    tuned |= {(heard, name): tuned.get((heard, start), EMPTY) for heard, name in rows if (start := METHODS[name].start)}
    jobs = sorted(((row, seed) for row in rows for seed in seeds), key=lambda job: _quick(job[0]))
    missing = [(row, seed) for row, seed in jobs if not arena.file(row, seed, "json", tuned[row]).is_file()]
    starts = {((heard, start), seed) for (heard, name), seed in missing if (start := METHODS[name].start)}
    parallel(workers)(delayed(_trained)(arena, row, seed, tuned[row]) for row, seed in sorted(starts))
    parts = dict(zip(jobs, parallel(workers)(delayed(_scored)(arena, row, seed, tuned[row]) for row, seed in jobs), strict=True))
    about = {label(row): {str(seed): parts[row, seed][1] for seed in seeds} for row in rows}
    paper = [("pdmer", MAML_ANNOTATOR, seed) for seed in seeds]
    train_for(experiment, paper, workers)
    published = score_all(experiment, paper, workers)[0]
    fixed = pd.concat(protocols.fixed_rows(experiment.store, "cross-song"))
    trained = pd.concat([parts[row, seed][0] for row in rows for seed in seeds])
    one_song = trained[trained.evidence == ONE_SONG].drop(columns="evidence")
    published = published[(published.protocol == "cross-song") & (published.method == MAML_ANNOTATOR)]
    scores = pd.concat([fixed, published.drop(columns="protocol"), one_song], ignore_index=True)
    best = max(about, key=lambda name: np.mean([a["chosen"][ONE_SONG]["validation_ccc"] for a in about[name].values()]))
    payload = bootstrap.summarize_against(scores, best)
    names = [label(row) for row in rows]
    payload |= {
        "rmse_above": _rmse_above(scores, rows),
        "best": best,
        "published": MAML_ANNOTATOR,
        "gap_closed": {name: bootstrap.gap_closed(payload["rows"], name) for name in [*names, MAML_ANNOTATOR]},
        "evidence": {
            key: bootstrap.summarize(bootstrap.CrossedScores(group))
            for key, group in trained.groupby("evidence", sort=False)
        },
        "about": about,
        "heard": {label(row): row[0] for row in rows},
        "method": {label(row): row[1] for row in rows},
        "searched": {label(row): tried for row, tried in searched.items()},
        "source": {name: METHODS[name].source for _, name in rows},
        "config": dataclasses.asdict(arena.config),
    }
    stamp = provenance(experiment.profile, experiment.dataset, seeds=list(seeds), seconds=time.perf_counter() - began)
    write_result(results / f"arena-{experiment.dataset.name}.json", payload, stamp)
    return payload
