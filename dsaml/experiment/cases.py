"""Cases: one test listener and one song that the models predict for them. What the book shows of single people.

Which cases are shown is chosen by rules, not by eye or ear.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from dsaml.data.annotations import MEAN
from dsaml.evaluate.metrics import score
from dsaml.experiment.recipes import MAML_ANNOTATOR, MAML_MEAN, NON_META
from dsaml.experiment.results import rounded
from dsaml.experiment.rows import BEFORE, FINE_TUNED, rows_of
from dsaml.experiment.run import Experiment
from dsaml.experiment.scoring import with_songs
from dsaml.learn.training import cross_song_tasks, predict_tasks

TRUTH, MEAN_LABEL = "truth", "mean label"
STUDY_SONGS = 10  # songs per participant, as in the paper
STUDY_DIGITS = 3  # of the curves that participants are shown: more than a screen shows
STUDY_METHODS = {  # the non-meta model stands where the paper has DAMFF
    "Ground truth (mean label)": MEAN_LABEL,
    "DSAML": MAML_ANNOTATOR,
    "DSAML w.o. personalized strategy": MAML_MEAN,
    "Non-meta DSAML": NON_META,
}
SHOWN = (FINE_TUNED, NON_META, MAML_MEAN, MAML_ANNOTATOR, BEFORE)


@dataclass(frozen=True, eq=False)
class Case:
    """One listener and one query song."""

    annotator: str
    support: str  #: the song that the models adapted on
    song: str  #: the one that they predict
    #: (60, 2) each, by row of the tables; also the listener's own labels (``TRUTH``) and the averaged ones (``MEAN_LABEL``)
    curves: dict[str, np.ndarray]

    def ccc(self, method: str) -> list[float]:
        """CCC of a curve, by dimension."""
        return [cell["ccc"] for cell in score(self.curves[method], self.curves[TRUTH]).values()]

    def gain(self) -> tuple[float, float, float]:
        """What adaptation gains in mean CCC, and the mean CCC before and after it."""
        before, after = (float(np.mean(self.ccc(method))) for method in (BEFORE, MAML_ANNOTATOR))
        return after - before, before, after


def by_listener(cases: list[Case]) -> dict[str, list[Case]]:
    """Each listener's cases, in the order in which they come."""
    return {who: [case for case in cases if case.annotator == who] for who in dict.fromkeys(c.annotator for c in cases)}


def predicted_cases(experiment: Experiment, selection: Mapping[str, Any], seed: int) -> list[Case]:
    """Curves of every test listener for every test song but one, which is the support song, by the models of one seed.

    ``selection`` are the inner loops that were chosen, as in ``pdmer.json``.
    """
    store = experiment.store
    tasks = cross_song_tasks(store, "test", 1)
    cases = [Case(task.annotator, task.support[0], song, {}) for task in tasks for song in task.query]
    for case in cases:
        for name, who in ((TRUTH, case.annotator), (MEAN_LABEL, MEAN)):
            case.curves[name] = store.track(who, case.song).values[: store.steps]
    for name in (NON_META, MAML_MEAN, MAML_ANNOTATOR):
        ready, adaptation = cache(partial(with_songs, experiment, name, seed)), experiment.recipes[name].adaptation
        for row in rows_of(name):
            if row.name in SHOWN:
                model, songs = ready(row.adapted)
                chosen = selection[str(seed)][row.name] if row.inner == "chosen" else {"inner_steps": 0}
                inner = {key: chosen[key] for key in ("inner_lr", "inner_steps") if key in chosen}
                predicted = predict_tasks(model, songs, tasks, dataclasses.replace(adaptation, **inner))
                for case, curve in zip(cases, (curve for task in predicted for curve in task), strict=True):
                    case.curves[row.name] = curve.numpy()
    return cases


def example_curves(experiment: Experiment, cases: list[Case]) -> dict[str, Any]:
    """Curves to look at.

    ``disagreement``: the test song on which listeners differ most, with all their curves and the two that are farthest apart.
    ``personalization``: the cases at the 90th, 50th and 10th percentile of the CCC that adaptation gains.
    """
    dataset, steps = experiment.dataset, experiment.store.steps

    def listeners(song: str) -> dict[str, np.ndarray]:
        """The curves (steps, 2) of all test listeners who rated so much of a song."""
        own = {who: dataset.tracks.get(who, {}).get(song) for who in dataset.split.annotators["test"]}
        return {who: track.values[:steps] for who, track in own.items() if track is not None and len(track) >= steps}

    clips = [s for s in dataset.split.songs["test"] if dataset.songs[s].clip]
    songs = {song: listeners(song) for song in clips or dataset.split.songs["test"]}
    song = max(songs, key=lambda s: np.std(list(songs[s].values()), axis=0).mean() if len(songs[s]) > 1 else -1.0)
    everybody, shown = list(songs[song]), np.stack(list(songs[song].values()))  # (L, T, 2)
    distance = np.linalg.norm((shown[:, None] - shown).reshape(len(shown), len(shown), -1), axis=-1)
    pair = [everybody[k] for k in np.unravel_index(distance.argmax(), distance.shape)]
    gains = sorted(((*case.gain(), case) for case in cases), key=lambda item: item[0])
    chosen = []
    for percentile in (90, 50, 10):
        _, before, after, case = gains[round(percentile / 100 * (len(gains) - 1))]
        about = {"percentile": percentile, "listener": case.annotator, "support_song": case.support, "song": case.song}
        curves = {name: rounded(values) for name, values in case.curves.items()}
        chosen.append(about | {"ccc_before": before, "ccc_after": after, "curves": curves})
    return {
        "times": rounded(dataset.mean[song].times[:steps]),
        "disagreement": {
            "song": song,
            "mean": rounded(shown.mean(0)),
            "pair": pair,
            "listeners": {who: rounded(curve) for who, curve in zip(everybody, shown, strict=True)},
        },
        "personalization": chosen,
        "share_improved": float(np.mean([gain > 0 for gain, *_ in gains])),
    }


def errors(cases: list[Case]) -> dict[str, Any]:
    """Where predictions go wrong, for each method.

    ``by_time``: the RMSE of arousal and valence at each step, over all. ``by_annotator``: each one's mean CCC of both.
    """
    names, people = (MEAN_LABEL, FINE_TUNED, MAML_MEAN, MAML_ANNOTATOR), by_listener(cases)
    squares = {name: np.mean([(case.curves[name] - case.curves[TRUTH]) ** 2 for case in cases], 0) for name in names}
    return {
        "by_time": {name: rounded(np.sqrt(square)) for name, square in squares.items()},
        "by_annotator": {
            name: {who: rounded(np.mean([case.ccc(name) for case in own], 0)) for who, own in people.items()} for name in names
        },
    }


def study_curves(experiment: Experiment, cases: list[Case]) -> dict[str, Any]:
    """What a participant of the subjective study is shown: four curves for each of ten songs (see :mod:`dsaml.study`).

    The truth is what a simulated listener heard; of a real one the own labels are all that is known.
    """

    def shown(case: Case) -> dict[str, Any]:
        heard = experiment.dataset.oracle.get(case.annotator, {}).get(case.song)
        true = case.curves[TRUTH] if heard is None else heard.values[: experiment.store.steps]
        methods = {label: rounded(case.curves[name], STUDY_DIGITS) for label, name in STUDY_METHODS.items()}
        return {"song_id": case.song, "truth": rounded(true, STUDY_DIGITS), "methods": methods}

    people = {who: [shown(case) for case in own[:STUDY_SONGS]] for who, own in by_listener(cases).items()}
    return {"participants": [{"id": who, "songs": songs} for who, songs in people.items()]}
