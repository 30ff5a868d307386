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
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import delayed
from rich.table import Table

from dsaml.arena.base import ArenaConfig, Backbone, Personalizer, Prediction
from dsaml.arena.fit import ask, choose, continued, fit
from dsaml.arena.gradient import Maml
from dsaml.arena.inputs import DsamlBackbone, dsaml_features, log_mel_statistics
from dsaml.arena.low_rank import LowRank
from dsaml.arena.methods import METHODS
from dsaml.arena.uncertainty import calibrate, uncertainty
from dsaml.arena.world import Asked, World, make_worlds
from dsaml.config import DIMENSIONS, METRICS
from dsaml.data.base import without_short
from dsaml.evaluate import bootstrap, metrics, protocols
from dsaml.experiment.claims import LEVEL
from dsaml.experiment.progress import training_bar
from dsaml.experiment.recipes import DMER_MODEL, MAML_ANNOTATOR
from dsaml.experiment.results import provenance, write_result
from dsaml.experiment.run import Experiment, parallel, train_all, use_one_core
from dsaml.experiment.scoring import score_all, train_for
from dsaml.io import seal, unseal, write_bytes_atomically
from dsaml.learn.loop import TrainingOptions
from dsaml.learn.training import cross_song_tasks
from dsaml.runtime.closure import code_digest

log = logging.getLogger(__name__)

SMALL, FROZEN, WHOLE = "log-mel statistics", "DSAML's features, frozen", "DSAML, end to end"
"""What methods hear: what a song's slices look like, through a small backbone; z_l and z' of DSAML, through the same backbone; and
DSAML itself, with the method as its last layer."""
EVIDENCE = {"2 s": (1, 4), "5 s": (1, 10), "10 s": (1, 20), "30 s": (1, 60), "3 songs": (3, 60), "5 songs": (5, 60)}
"""What is known of a listener: songs, and labels of each. "30 s" is the protocol's one song."""
ONE_SONG = "30 s"
VALIDATION_SUPPORTS = 2  # support sets of each validation listener
REPEATS = 20  # of the adaptation that is timed

Row = tuple[str, str]
"""What it hears, and the method."""
ROWS: tuple[Row, ...] = (*((heard, name) for heard in (SMALL, FROZEN) for name in METHODS), (WHOLE, LowRank.name))


def label(row: Row) -> str:
    """How a row is called in the result file."""
    return f"{row[1]} | {row[0]}"


def full_clips(experiment: Experiment) -> Experiment:
    """The experiment without songs that are shorter than a clip, which the arena's methods do not take; their number is logged."""
    data, songs, _ = without_short(experiment.dataset, experiment.store.steps)
    if songs:
        log.warning("%d songs of fewer than %d labels are left out of the arena", songs, experiment.store.steps)
    return dataclasses.replace(experiment, dataset=data)


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
        """The worlds of some parts, for a kind of features; DSAML's are those of its training with the same seed."""
        experiment, steps = self.experiment, self.experiment.store.steps
        if heard == SMALL:
            inputs = log_mel_statistics(experiment.features, steps)
        else:
            model = experiment.model(DMER_MODEL, seed)[0]
            inputs = dsaml_features(model, experiment.features, steps, context=heard == FROZEN)
        return make_worlds(experiment.dataset, inputs, steps, parts)

    def build(self, row: Row, seed: int, train: World) -> Personalizer:
        """A method with random weights."""
        heard, name = row
        torch.manual_seed(seed)
        if heard == WHOLE:
            model = self.experiment.model(DMER_MODEL, seed)[0]
            backbone: torch.nn.Module = DsamlBackbone(model, train.mean, train.deviation, self.config)
        else:
            backbone = Backbone(train.x.shape[-1], self.config)
        return METHODS[name](backbone, self.config)

    def file(self, row: Row, seed: int, kind: str) -> Path:
        """Where something of a row is kept: named by settings, code, and the DSAML that it starts from."""
        start = "" if row[0] == SMALL else self.experiment.checkpoint(DMER_MODEL, seed).name
        text = f"{kind} {row} {self.config} {start} {code_digest(__name__)}"
        return self.experiment.checkpoints / f"arena-{hashlib.sha256(text.encode()).hexdigest()[:20]}-{seed}.{kind}"

    def train(self, row: Row, seed: int) -> tuple[Personalizer, dict[str, Any]]:
        """A trained method and what its training tells; from its checkpoint where there is one. Sees nothing of the test part."""
        heard, name = row
        worlds = self.worlds(heard, seed, ("train", "validation"))
        method, start = self.build(row, seed, worlds["train"]), METHODS[name].start
        if start:
            continued(method, self.train((heard, start), seed)[0])
        file = self.file(row, seed, "pt")
        held_out = cross_song_tasks(self.experiment.store, "validation", VALIDATION_SUPPORTS)
        with training_bar(f"{label(row)}, seed {seed}", 1, "step") as progress:
            options = TrainingOptions(checkpoint=file, resume=True, progress=progress, seed=seed)
            history = fit(method, worlds["train"], worlds["validation"], held_out, options)
        return method, {} if history is None else {"best_step": history.best_step, "validation": history.validation}


def _trained(arena: Arena, row: Row, seed: int) -> None:
    use_one_core()
    arena.train(row, seed)


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


def _scored(arena: Arena, row: Row, seed: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Scores of a row on the test part, for all of ``EVIDENCE``; settings and calibration come from validation, before."""
    use_one_core()
    path = arena.file(row, seed, "json")
    if path.is_file():
        stored = json.loads(unseal(path.read_bytes()))
        return pd.DataFrame(stored["table"]).astype({"annotator": str, "song": str}), stored["about"]
    (method, about), store = arena.train(row, seed), arena.experiment.store
    validation = arena.worlds(row[0], seed, ("train", "validation"))["validation"]
    chosen, settings = {}, {}
    for evidence, (songs, labels) in EVIDENCE.items():
        held_out = validation.batches(cross_song_tasks(store, "validation", VALIDATION_SUPPORTS, songs))
        tried = choose(method, held_out, labels)
        settings[evidence] = method.settings
        chosen[evidence] = {"settings": method.settings, "validation_ccc": max(score for _, score in tried)}
        if evidence == ONE_SONG:
            about |= _cost(method, held_out[0])
            answers = ask(method, held_out)
            if answers[0].variance is not None:
                calibrate(method, answers, [part.target for part in held_out])
    test, tables = arena.worlds(row[0], seed, ("test",))["test"], []  # here for the first time
    for evidence, (songs, labels) in EVIDENCE.items():
        method.settings = settings[evidence]
        asked = test.batches(cross_song_tasks(store, "test", protocols.SUPPORTS, songs))
        answers = ask(method, asked, labels)
        tables.append(scores_of(answers, asked, label(row), seed).assign(evidence=evidence))
        if evidence == ONE_SONG and answers[0].variance is not None:
            about["uncertainty"] = uncertainty(answers, [part.target for part in asked])
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


def run_arena(
    experiment: Experiment,
    seeds: Sequence[int],
    results: Path,
    rows: Iterable[Row] = ROWS,
    workers: int = 2,
    config: ArenaConfig | None = None,
) -> dict[str, Any]:
    """Train, choose and score all rows; write ``arena-<data set>.json``. What is on disk is not computed again.

    Returns
    -------
    dict
        For each of ``EVIDENCE`` every row's means and intervals (``evidence``); for one song the paired differences between the
        best row (by validation) and the others; each row's adaptation time, bytes and choices (``about``);
        ``gap_closed``.
    """
    experiment = full_clips(experiment)
    arena, began, rows = Arena(experiment, config or fitting_config(experiment)), time.perf_counter(), list(rows)
    if any(heard != SMALL for heard, _ in rows):
        train_all(experiment, {(DMER_MODEL, seed) for seed in seeds}, workers)
    jobs = [(row, seed) for row in rows for seed in seeds]
    missing = [job for job in jobs if not arena.file(*job, "json").is_file()]
    for own in (True, False):  # first those that others start from
        some = [(row, seed) for row, seed in missing if (METHODS[row[1]].start is None) is own]
        parallel(workers)(delayed(_trained)(arena, row, seed) for row, seed in some)
    parts = parallel(workers)(delayed(_scored)(arena, row, seed) for row, seed in jobs)
    about: dict[str, dict[str, Any]] = {}
    for (row, seed), (_, told) in zip(jobs, parts, strict=True):
        about.setdefault(label(row), {})[str(seed)] = told
    paper = [("pdmer", MAML_ANNOTATOR, seed) for seed in seeds]
    train_for(experiment, paper, workers)
    published = score_all(experiment, paper, workers)[0]
    fixed = pd.concat(protocols.fixed_rows(experiment.store, "cross-song"))
    trained = pd.concat([scores for scores, _ in parts])
    one_song = trained[trained.evidence == ONE_SONG].drop(columns="evidence")
    published = published[(published.protocol == "cross-song") & (published.method == MAML_ANNOTATOR)]
    scores = pd.concat([fixed, published.drop(columns="protocol"), one_song], ignore_index=True)
    best = max(about, key=lambda name: np.mean([a["chosen"][ONE_SONG]["validation_ccc"] for a in about[name].values()]))
    payload = bootstrap.summarize_against(scores, best)
    names = [label(row) for row in rows]
    payload |= {
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
        "source": {name: METHODS[name].source for _, name in rows},
        "config": dataclasses.asdict(arena.config),
    }
    stamp = provenance(experiment.profile, experiment.dataset, seeds=list(seeds), seconds=time.perf_counter() - began)
    write_result(results / f"arena-{experiment.dataset.name}.json", payload, stamp)
    return payload


def terminal_table(payload: Mapping[str, Any]) -> Table:
    """The arena's rows of one song: CCC with interval, share of the gap closed, milliseconds and bytes of one listener."""
    out = Table(title=f"one song of {ONE_SONG}: CCC [95 % interval]", caption=f"best on validation: {payload['best']}")
    out.add_column("")
    for column in (*DIMENSIONS, "gap closed", "adapt, ms", "bytes"):
        out.add_column(column, justify="right")
    for name, row in payload["rows"].items():
        cells = ["{mean:.3f} [{low:.3f}, {high:.3f}]".format(**row[d]["ccc"]) for d in DIMENSIONS]
        gap = payload["gap_closed"].get(name)
        cells.append(" / ".join(f"{gap[d]:.0%}" for d in DIMENSIONS) if gap else "")
        told = list(payload["about"].get(name, {}).values())
        cost = [f"{np.mean([t['adapt_ms'] for t in told]):.1f}", f"{told[0]['bytes']:,}"] if told else ["", ""]
        out.add_row(name, *cells, *cost)
    return out


def table(payload: Mapping[str, Any]) -> pd.DataFrame:
    """Every row for readers: CCC with interval, RMSE, share of the gap closed, and what one listener costs."""
    lines = []
    for name, row in payload["rows"].items():
        told, gap = list(payload["about"].get(name, {}).values()), payload["gap_closed"].get(name)
        line = {"method": payload["method"].get(name, name), "hears": payload["heard"].get(name, "")}
        for d in DIMENSIONS:
            line[f"{d}: CCC"] = "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**row[d]["ccc"])
            line[f"{d}: RMSE"] = f"{row[d]['rmse']['mean']:.3f}"
        line["gap closed"] = " / ".join(f"{gap[d]:.0%}" for d in DIMENSIONS) if gap else ""
        for key, digits in (("adapt_ms", 1), ("bytes", 0)):
            values = [t[key] for t in told if key in t]
            line[key.replace("_", " ")] = f"{np.mean(values):,.{digits}f}" if values else ""
        lines.append(line)
    return pd.DataFrame(lines)


def in_words(payload: Mapping[str, Any]) -> dict[str, str]:
    """What came out, as sentences: ``best``, ``against`` (paired differences), ``dsaml`` (rows that hear DSAML's own features)."""
    rows, heard, method = payload["rows"], payload["heard"], payload["method"]

    def scores(name: str) -> str:
        cells = [f"{rows[name][d]['ccc']['mean']:.3f} in {d}" for d in DIMENSIONS]
        gap = payload["gap_closed"].get(name)
        closed = f", {' and '.join(f'{gap[d]:.0%}' for d in DIMENSIONS)} of the gap" if gap else ""
        return " and ".join(cells) + closed

    def validation(name: str) -> float:
        return float(np.mean([told["chosen"][ONE_SONG]["validation_ccc"] for told in payload["about"][name].values()]))

    best = payload["best"]
    others = {name: f"MAML on {heard[name]}" for name in method if method[name] == Maml.name}
    others[payload["published"]] = "the paper's MAML through the whole of DSAML"
    against = []
    for name, words in others.items():
        if cells := payload["paired"]["against"].get(name):
            told = [
                "{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format(**cells[d])
                + ("" if cells[d]["p_holm"] < LEVEL else " (not decided)")
                + f" in {d}"
                for d in DIMENSIONS
            ]
            against.append(f"minus {words}: {' and '.join(told)}")
    own = [name for name in method if heard[name] != SMALL]
    text = {"best": f"{method[best]} on {heard[best]}: CCC {scores(best)}.", "against": "; ".join(against) + "."}
    if own:
        chosen = max(own, key=validation)
        text["dsaml"] = f"{method[chosen]}, {heard[chosen]}: CCC {scores(chosen)}."
    return text
