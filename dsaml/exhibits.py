"""What the book shows besides the tables: curves, attention maps, training histories, the opening figure and its sound.

Everything is computed here once and written as result files; notebooks and pages only read them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dsaml import attention, player, structure
from dsaml import evaluation as ev
from dsaml import reproduce as rp
from dsaml import scoring as sc
from dsaml.annotations import MEAN
from dsaml.audio import encode, excerpt
from dsaml.datasets import synthetic
from dsaml.datasets.population import STRESS
from dsaml.metrics import score
from dsaml.results import provenance, write_result
from dsaml.tasks import Task
from dsaml.training import cross_song_tasks

CLIP_SECONDS = 20.0  # of the opening figure's song
STUDY_SONGS = 10  # songs per participant, as in the paper


def _round(values: Any, digits: int = 4) -> list[Any]:
    return np.round(np.asarray(values, float), digits).tolist()


def write_all(experiment: rp.Experiment, payload: Mapping[str, Any], seed: int, results: Path) -> None:
    """Write every exhibit of one training seed next to ``pdmer.json``.

    Parameters
    ----------
    experiment : Experiment
    payload : mapping
        What :func:`dsaml.reproduce.pdmer` returned.
    seed : int
        Whose models are shown.
    results : Path
    """
    started = time.perf_counter()

    def stamp(seeds: list[int]) -> dict[str, Any]:
        seconds = time.perf_counter() - started
        return provenance(experiment.profile, experiment.dataset, seeds=seeds, seconds=seconds)

    training = training_histories(experiment, seed)
    write_result(results / "training.json", training, stamp([seed]))
    maps = attention_maps(experiment, seed)
    write_result(results / "attention.json", maps, stamp([seed]))
    predictions = personal_predictions(experiment, payload, seed)
    curves = example_curves(experiment, predictions)
    write_result(results / "curves.json", curves, stamp([seed]))
    write_result(results / "errors.json", errors(predictions), stamp([seed]))
    write_result(results / "player.json", player.write(experiment, predictions, results / "player"), stamp([seed]))
    write_result(results / "study_curves.json", study_curves(experiment, predictions), stamp([seed]))
    spread = structure.calibration(experiment.dataset)
    write_result(
        results / "corpus.json", {"spread": spread.to_dict("index"), "songs": corpus_counts(experiment)}, stamp([seed])
    )
    words = numbers(experiment, payload) | {"figure4_finding": attention.finding(maps)}
    write_result(results / "numbers.json", words, stamp([int(s) for s in payload["selection"]]))
    write_opening(experiment, curves, results / "index")
    write_slides(payload, curves, training, results / "index")


def training_histories(experiment: rp.Experiment, seed: int) -> dict[str, Any]:
    """Loss of each step and validation CCC of every trained model."""
    return {name: vars(experiment.model(name, seed)[1]) for name in rp.DEMO_MODELS}


def attention_maps(experiment: rp.Experiment, seed: int) -> dict[str, Any]:
    """Last-layer maps of both scales, averaged over heads and over the test songs' first 30 s, with and without Eq. 3.

    Also the maps of the first test song, the mean of the diagonals beside their targets, and the separation of the scales.
    """
    store, step_seconds = experiment.store, experiment.profile.audio.step_seconds
    songs = attention.songs_shown(store)
    out: dict[str, Any] = {
        "targets": {"local": experiment.profile.model.alpha, "global": experiment.profile.model.beta}
    }
    for label, name in (("with", rp.SUPERVISED), ("without", rp.NO_ATTENTION_LOSS)):
        model, history = experiment.model(name, seed)
        found = attention.last_maps(model, store)
        out[label] = {
            "validation_ccc": max(s for _, s in history.validation),
            "separation_seconds": float(attention.separation(found, step_seconds).mean()),
        }
        for scale, maps in found.items():
            out[label][scale] = {
                "mean_map": _round(maps.mean(0)),
                "song_map": _round(maps[0]),
                "diagonal": float(maps.diagonal(dim1=-2, dim2=-1).mean()),
                "mean_distance_seconds": float(attention.mean_distance(maps, step_seconds).mean()),
            }
    return out | {"song": songs[0], "songs": len(songs)}


def personal_predictions(experiment: rp.Experiment, payload: Mapping[str, Any], seed: int) -> list[dict[str, Any]]:
    """Curves of every test listener on every test song but one, which is the support song.

    Returns
    -------
    list of dict
        ``annotator``, ``support``, and for each query song the truth and the curves of the compared methods, (60, 2).
    """
    store = experiment.store
    tasks = cross_song_tasks(store, "test", 1)
    rows = [{"annotator": t.annotator, "support": t.support[0], "songs": {s: {} for s in t.query}} for t in tasks]

    def put(name: str, curves: list[np.ndarray]) -> None:
        for row, task, predicted in zip(rows, tasks, curves, strict=True):
            for song, curve in zip(task.query, predicted, strict=True):
                row["songs"][song][name] = np.asarray(curve)

    put("truth", ev.truth(store, tasks))
    put("mean label", ev.truth(store, [Task(MEAN, t.support, t.query) for t in tasks]))
    for name, label in (
        (rp.NON_META, sc.FINE_TUNED),
        (rp.MAML_MEAN, rp.MAML_MEAN),
        (rp.MAML_ANNOTATOR, rp.MAML_ANNOTATOR),
    ):
        model, _ = experiment.model(name, seed, adapted=name == rp.NON_META)
        chosen = payload["selection"][str(seed)][label]
        adaptation = experiment.recipes[name].adaptation
        config = sc.with_inner(adaptation, chosen["inner_lr"], chosen["inner_steps"])
        inputs = store.local(model) if config.adapt != "all" else store
        put(label, ev.model_predictor(model, inputs, config)(tasks))
        if name == rp.NON_META:  # as it is, with the checkpoint that was best as it is
            model, _ = experiment.model(name, seed)
            inputs = store.local(model) if config.adapt != "all" else store
        if name != rp.MAML_MEAN:
            put(
                f"{label}, before" if name == rp.MAML_ANNOTATOR else name,
                ev.model_predictor(model, inputs, config, 0)(tasks),
            )
    return rows


def example_curves(experiment: rp.Experiment, predictions: list[dict[str, Any]]) -> dict[str, Any]:
    """Curves to look at, chosen by rules and not by eye.

    ``disagreement``: the test song on which listeners differ most, with all their curves and the two that are farthest apart.
    ``personalization``: the listener-song pairs at the 90th, 50th and 10th percentile of the CCC that adaptation gains.
    """
    dataset, store = experiment.dataset, experiment.store
    songs = [s for s in dataset.split.songs["test"] if dataset.songs[s].clip]
    listeners = [
        who for who in dataset.split.annotators["test"] if all(s in dataset.tracks.get(who, {}) for s in songs)
    ]
    every = np.stack(
        [[dataset.tracks[who][s].values[: store.steps] for who in listeners] for s in songs]
    )  # (S, L, T, 2)
    song = int(every.std(1).mean((1, 2)).argmax())
    distance = np.linalg.norm(
        (every[song, :, None] - every[song, None]).reshape(len(listeners), len(listeners), -1), axis=-1
    )
    first, second = np.unravel_index(distance.argmax(), distance.shape)
    before = player.BEFORE
    gains = []
    for row in predictions:
        for s, curves in row["songs"].items():
            scores = [
                np.mean([v["ccc"] for v in score(curves[k], curves["truth"]).values()])
                for k in (before, rp.MAML_ANNOTATOR)
            ]
            gains.append((scores[1] - scores[0], scores, row, s))
    gains.sort(key=lambda item: item[0])
    cases = []
    for percentile in (90, 50, 10):
        _, scores, row, s = gains[round(percentile / 100 * (len(gains) - 1))]
        cases.append(
            {
                "percentile": percentile,
                "listener": row["annotator"],
                "support_song": row["support"],
                "song": s,
                "ccc_before": scores[0],
                "ccc_after": scores[1],
                "curves": {name: _round(values) for name, values in row["songs"][s].items()},
            }
        )
    return {
        "times": _round(dataset.mean[songs[song]].times[: store.steps]),
        "disagreement": {
            "song": songs[song],
            "mean": _round(every[song].mean(0)),
            "pair": [listeners[first], listeners[second]],
            "listeners": {who: _round(every[song, k]) for k, who in enumerate(listeners)},
        },
        "personalization": cases,
        "share_improved": float(np.mean([g[0] > 0 for g in gains])),
    }


def errors(predictions: list[dict[str, Any]]) -> dict[str, Any]:
    """Where predictions go wrong.

    Returns
    -------
    dict
        ``by_time``: for each method the RMSE of arousal and valence at each step, over all listeners and songs. ``by_annotator``:
        for each method and listener the mean CCC of both.
    """
    methods = ("mean label", sc.FINE_TUNED, rp.MAML_MEAN, rp.MAML_ANNOTATOR)
    by_time, by_annotator = {}, {}
    for name in methods:
        pairs = [(row["annotator"], c[name], c["truth"]) for row in predictions for c in row["songs"].values()]
        squares = np.mean([(predicted - true) ** 2 for _, predicted, true in pairs], 0)  # (60, 2)
        by_time[name] = _round(np.sqrt(squares))
        people: dict[str, list[list[float]]] = {}
        for who, predicted, true in pairs:
            people.setdefault(who, []).append([score(predicted, true)[d]["ccc"] for d in ev.DIMENSIONS])
        by_annotator[name] = {who: _round(np.mean(values, 0)) for who, values in people.items()}
    return {"by_time": by_time, "by_annotator": by_annotator}


def study_curves(experiment: rp.Experiment, predictions: list[dict[str, Any]]) -> dict[str, Any]:
    """What a participant of the subjective study is shown: four curves for each of ten songs (see :mod:`dsaml.study`).

    The non-meta model stands where the paper has DAMFF.
    """
    names = {
        "Ground truth (mean label)": "mean label",
        "DSAML": rp.MAML_ANNOTATOR,
        "DSAML w.o. personalized strategy": rp.MAML_MEAN,
        "Non-meta DSAML": rp.NON_META,
    }
    oracle = experiment.dataset.oracle
    participants = []
    for row in predictions:
        songs = []
        for s in list(row["songs"])[:STUDY_SONGS]:
            true = oracle[row["annotator"]][s].values[: experiment.store.steps]
            shown = {label: _round(row["songs"][s][key]) for label, key in names.items()}
            songs.append({"song_id": s, "truth": _round(true), "methods": shown})
        participants.append({"id": row["annotator"], "songs": songs})
    return {"participants": participants}


def corpus_counts(experiment: rp.Experiment) -> dict[str, Any]:
    """How many songs, listeners and tracks each part of the split has."""
    dataset = experiment.dataset
    out = {}
    for part, songs in dataset.split.songs.items():
        listeners = dataset.split.annotators[part]
        tracks = sum(s in dataset.tracks.get(who, {}) for who in listeners for s in songs)
        out[part] = {"songs": len(songs), "listeners": len(listeners), "tracks": tracks}
    return out


def numbers(experiment: rp.Experiment, payload: Mapping[str, Any]) -> dict[str, str]:
    """The numbers that prose uses, as text: ``{{ name }}`` on a page."""
    rows = {
        "average_curve": ev.AVERAGE_CURVE,
        "average_curve_spread": ev.AVERAGE_CURVE_SPREAD,
        "finetuned": sc.FINE_TUNED,
        "maml_mean": rp.MAML_MEAN,
        "maml_annotator": rp.MAML_ANNOTATOR,
        "own_curve": ev.OWN_CURVE,
    }
    seeds = len(payload["selection"])
    out = {"headline": rp.verdict(payload), "seeds": "one training seed" if seeds == 1 else f"{seeds} training seeds"}
    for name, row in rows.items():
        for d in ev.DIMENSIONS:
            out[f"{name}_{d}"] = f"{payload['rows'][row][d]['ccc']['mean']:.3f}"
    for d, share in (payload["gap_closed"] or {}).items():
        out[f"gap_closed_{d}"] = f"{100 * share:.0f} %"
    for row, cells in structure.calibration(experiment.dataset).to_dict("index").items():
        key = {"step": "disagreement", "within-song": "within_train" if "training" in row else "within_test"}[
            row.split()[0]
        ]
        out |= {f"{key}_{d}": f"{cells[d]:.3f}" for d in ev.DIMENSIONS}
    for part, counts in corpus_counts(experiment).items():
        out |= {f"{part}_{what}": str(count) for what, count in counts.items()}
    for name, config in (("default", synthetic.config(experiment.dataset.root)), ("stress", STRESS)):
        out |= {f"structure.{name}.{key}": value for key, value in structure.of_corpus(config).items()}
    return out


def write_opening(experiment: rp.Experiment, curves: Mapping[str, Any], folder: Path) -> None:
    """The figure of the book's first page (``hero.svg``) and the song it shows (``clip.mp3``)."""
    from dsaml.plots.curves import disagreement

    folder.mkdir(parents=True, exist_ok=True)
    disagreement(curves, only_pair=True).savefig(folder / "hero.svg", metadata={"Date": None})
    song = experiment.dataset.songs[curves["disagreement"]["song"]]
    encode(folder / "clip.mp3", *excerpt(song.audio, experiment.profile.audio.label_start, CLIP_SECONDS))


def write_slides(
    payload: Mapping[str, Any], curves: Mapping[str, Any], training: Mapping[str, Any], folder: Path
) -> None:
    """Figures for slides (SVG, white ground), beside the opening figure: the teaching page links to them."""
    from dsaml.plots import curves as figures
    from dsaml.plots.errors import with_more_songs

    middle = curves["personalization"][1]  # the median case, not the best one
    shots = {0: player.BEFORE} | {songs: sc.shots_label(songs) for songs in sc.SHOTS}
    drawn = {
        "before_after": figures.before_after(middle, curves["times"], player.BEFORE, rp.MAML_ANNOTATOR),
        "forest": figures.forest(payload["rows"]),
        "more_songs": with_more_songs(payload["rows"], shots),
        "histories": figures.histories(training, [rp.MAML_ANNOTATOR, rp.MAML_MEAN]),
    }
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None}, facecolor="white", bbox_inches="tight")
