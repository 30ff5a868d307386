"""The arena's run: every method with every kind of features, trained and chosen without the test part, then scored on it once."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import delayed

from dsaml.arena.base import ArenaConfig, Personalizer, Prediction
from dsaml.arena.fit import ask, choose, step_loss
from dsaml.arena.gradient import FineTuning
from dsaml.arena.in_context import InContext
from dsaml.arena.methods import METHODS
from dsaml.arena.nothing import Nothing
from dsaml.arena.uncertainty import calibrate, uncertainty
from dsaml.arena.world import Asked, World
from dsaml.config import DIMENSIONS, METRICS
from dsaml.evaluate import bootstrap, metrics, protocols
from dsaml.experiment.arena_errors import errors_of, in_turn
from dsaml.experiment.arena_rows import EMPTY, ROWS, SMALL, WHOLE, Arena, Row, Tuned, fitting_config, full_clips, label
from dsaml.experiment.recipes import DMER_MODEL, MAML_ANNOTATOR
from dsaml.experiment.results import provenance, write_result
from dsaml.experiment.run import Experiment, parallel, train_all, train_one, use_one_core
from dsaml.experiment.scoring import score_all
from dsaml.io import seal, unseal, write_bytes_atomically
from dsaml.learn.batches import SongStore
from dsaml.learn.training import cross_song_tasks

log = logging.getLogger(__name__)

EVIDENCE = {"2 s": (1, 4), "5 s": (1, 10), "10 s": (1, 20), "30 s": (1, 60), "3 songs": (3, 60), "5 songs": (5, 60)}
"""What is known of a listener: songs, and labels of each. "30 s" is the protocol's one song."""
ONE_SONG = "30 s"
REPEATS, STEPS_TIMED = 20, 5  # adaptations and meta-steps that are timed


def evidence_for(store: SongStore) -> dict[str, tuple[int, int]]:
    """What of ``EVIDENCE`` validation and test listeners rated enough songs for."""
    return {
        name: (songs, labels)
        for name, (songs, labels) in EVIDENCE.items()
        if all(cross_song_tasks(store, part, 1, songs) for part in ("validation", "test"))
    }


def _searched(arena: Arena, row: Row, seed: int) -> list[tuple[dict[str, Any], float]]:
    """A row's ways to train and what each comes to on validation listeners, by successive halving (Jamieson and Talwalkar 2016).

    All of them are trained for half of the steps of a search, and the better half of them to its end.
    """
    use_one_core()
    ways, steps = METHODS[row[1]].trainings, arena.config.search_steps
    short = dataclasses.replace(arena, config=arena.config.tuned({"steps": steps}))
    scores = [short.tried(row, seed, tuned, max(1, steps // 2)) for tuned in ways]
    for place in sorted(range(len(ways)), key=scores.__getitem__)[len(ways) // 2 :]:
        scores[place] = short.tried(row, seed, ways[place], steps)
    return list(zip(map(dict, ways), scores, strict=True))


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
    worlds = arena.worlds(row[0], seed, ("train", "validation"))
    validation, chosen, settings = worlds["validation"], {}, {}
    if hasattr(method, "belief"):
        about["belief"] = method.belief.tolist()
    known = evidence_for(store)
    for evidence, (songs, labels) in known.items():
        held_out = arena.held_out(validation, songs)
        tried = choose(method, held_out, labels)
        settings[evidence] = method.settings
        chosen[evidence] = {"settings": method.settings, "validation_ccc": max(score for _, score in tried)}
        if evidence == ONE_SONG:
            about |= _cost(method, worlds["train"], held_out[0])
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


def _cost(method: Personalizer, world: World, asked: Asked) -> dict[str, float]:
    """Milliseconds of one listener's adaptation, features given; bytes that are kept of a listener; seconds of meta-training.

    Medians of a few; those of training are seconds of processor for forward and backward passes, times the number of steps.
    """
    with torch.no_grad():
        h, y, seconds = next(method.heard([asked]))[0][:1], asked.y[:1], []
        for _ in range(REPEATS):
            began = time.perf_counter()
            state = method.adapt(h, y)
            seconds.append(time.perf_counter() - began)
    cost = {"adapt_ms": 1000 * float(np.median(seconds)), "bytes": method.size(state)}
    if method.start is None:
        untrained, seconds = copy.deepcopy(method).train(), []
        untrained.settings = {}  # training has its own
        for step in range(STEPS_TIMED):
            began = time.process_time()
            step_loss(untrained, world, 0, step).backward()
            seconds.append(time.process_time() - began)
        cost["train_s"] = float(np.median(seconds)) * method.config.training.steps
    return cost


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
        same features (``rmse_above``); each row's times, bytes and choices (``about``); ``gap_closed``.
    """
    experiment, workers = full_clips(experiment), workers or experiment.workers
    arena, began, rows = Arena(experiment, config or fitting_config(experiment)), time.perf_counter(), list(rows)
    if any(heard != SMALL for heard, _ in rows):
        train_all(experiment, {(DMER_MODEL, seed) for seed in seeds}, workers)
    for heard in {heard for heard, _ in rows}:
        for seed in seeds:
            arena.inputs(heard, seed)
    own = sorted((row for row in rows if METHODS[row[1]].start is None), key=_quick)
    paper = [delayed(train_one)(experiment, MAML_ANNOTATOR, seed) for seed in seeds]
    # in one pool, so that no core waits for the last one
    searches = parallel(workers)([*paper, *(delayed(_searched)(arena.sent(row), row, seeds[0]) for row in own)])
    searched = dict(zip(own, searches[len(paper) :], strict=True))
    tuned = {row: max(tried, key=lambda pair: pair[1])[0] for row, tried in searched.items()}
    tuned |= {(heard, name): tuned.get((heard, start), EMPTY) for heard, name in rows if (start := METHODS[name].start)}
    jobs = sorted(((row, seed) for row in rows for seed in seeds), key=lambda job: _quick(job[0]))
    missing = [(row, seed) for row, seed in jobs if not arena.file(row, seed, "json", tuned[row]).is_file()]
    starts = {((heard, start), seed) for (heard, name), seed in missing if (start := METHODS[name].start)}
    parallel(workers)(delayed(_trained)(arena.sent(row), row, seed, tuned[row]) for row, seed in sorted(starts))
    scored = parallel(workers)(delayed(_scored)(arena.sent(row), row, seed, tuned[row]) for row, seed in jobs)
    parts = dict(zip(jobs, scored, strict=True))
    about = {label(row): {str(seed): parts[row, seed][1] for seed in seeds} for row in rows}
    published = score_all(experiment, [("pdmer", MAML_ANNOTATOR, seed) for seed in seeds], workers)[0]
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
