"""Questions, and the scores of their answers.

A *scores table* (pandas) has one row per method, seed, annotator, song and dimension, with a column for each metric: one score per
song, the mean over the support sets that the song was asked with. What needs no training has the seed ``UNTRAINED``. Means,
intervals and differences are made of it in :mod:`dsaml.evaluate.bootstrap`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dsaml.config import METRICS
from dsaml.data.annotations import Annotation
from dsaml.evaluate.metrics import score

UNTRAINED = -1  # the seed of rows that nothing was trained for: floors and oracles


@dataclass(frozen=True, eq=False)
class Question:
    """What does this annotator feel in this song?"""

    annotator: str  #: "all" asks for the averaged label
    song: str
    target: np.ndarray  #: (T, 2), the right answer: arousal, valence
    support: np.ndarray  #: (N, 2), the labels that are given of the annotator; none in DMER
    first: int = 0  #: step of the song with which the target begins


Answer = Callable[[Question], np.ndarray]
"""How something answers: with a curve (T, 2)."""


def about_song(track: Annotation, support: np.ndarray | None = None, steps: int | None = None) -> Question:
    """What does this annotator feel in the whole song, or in its first ``steps``?"""
    values = track.values
    return Question(track.annotator_id, track.song_id, values[:steps], values[:0] if support is None else support)


def about_rest(track: Annotation, steps: int) -> Question:
    """What follows the first ``steps`` labels of a song?"""
    return Question(track.annotator_id, track.song_id, track.values[steps:], track.values[:steps], steps)


def scores_table(
    questions: Sequence[Question],
    answers: Iterable[np.ndarray],
    method: str,
    seed: int,
    metrics: Sequence[str] = METRICS,
) -> pd.DataFrame:
    """Scores of one method's answers: curves (T, 2), of which the steps count that there are labels for."""
    keys, rows = ["annotator", "song", "dimension"], []
    for question, answer in zip(questions, answers, strict=True):
        steps = min(len(answer), len(question.target))
        for dimension, scores in score(answer[:steps], question.target[:steps], metrics).items():
            rows.append({"annotator": question.annotator, "song": question.song, "dimension": dimension, **scores})
    means = pd.DataFrame(rows, columns=[*keys, *metrics]).groupby(keys, as_index=False)[list(metrics)].mean()
    return means.assign(method=method, seed=seed)
