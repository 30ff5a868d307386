"""What the error after one support song depends on: on the listener, on the song, or on what this listener said of this song.

A method ranks its errors as far as it sees what they depend on. Of a listener it sees one song. How much of the error lies in the
listener and in the support song, and how well somebody ranks it who knows the errors after *other* songs of the same listener
and of *other* listeners after the same song, says how much there is to see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from dsaml.arena.base import Personalizer, Prediction
from dsaml.arena.fit import ask
from dsaml.arena.world import Asked, World
from dsaml.config import DIMENSIONS
from dsaml.errors import DsamlError
from dsaml.evaluate.structure import level_variances
from dsaml.learn.batches import SongStore
from dsaml.learn.training import cross_song_tasks

LISTENER, SONG, BOTH = "the listener", "the support song", "both"


def in_turn(world: World, store: SongStore, part: str) -> list[Asked]:
    """Tasks of a part's listeners in which each of their songs is the support song once."""
    return world.batches(cross_song_tasks(store, part, len(world.songs)))


def errors_of(method: Personalizer, worlds: Mapping[str, World], store: SongStore) -> dict[str, Any]:
    """:func:`error_structure` of the test part, and ``rmse``: the mean error in each part, by dimension."""
    errors = {}
    for part, world in worlds.items():
        asked = in_turn(world, store, part)
        errors[part] = support_errors(ask(method, asked), asked)
    means = {part: found[list(DIMENSIONS)].mean().to_dict() for part, found in errors.items()}
    return error_structure(errors["test"]) | {"rmse": means}


def support_errors(answers: Sequence[Prediction], asked: Sequence[Asked]) -> pd.DataFrame:
    """RMSE over the query songs of each support song: columns ``annotator``, ``song`` and the dimensions."""
    tables = []
    for answer, part in zip(answers, asked, strict=True):
        rmse = (answer.mean - part.target).square().mean((1, 2)).sqrt().numpy()  # (K, 2)
        names = {"annotator": [task.annotator for task in part.tasks], "song": [task.support[0] for task in part.tasks]}
        tables.append(pd.DataFrame(names | dict(zip(DIMENSIONS, rmse.T, strict=True))))
    return pd.concat(tables, ignore_index=True)


def error_structure(errors: pd.DataFrame) -> dict[str, Any]:
    """Shares of the variance of errors, and how well knowing other errors would rank them.

    Parameters
    ----------
    errors : DataFrame
        Of :func:`support_errors`, with as many support songs of each listener as there are.

    Returns
    -------
    dict
        ``shares``: of the variance over support sets, by ``LISTENER``, ``SONG`` and ``BOTH`` (crossed random effects, see
        :mod:`dsaml.evaluate.structure`), then by dimension. ``rank_if_known``: Spearman's correlation of each error with the mean
        of the same listener's after other songs (a drawn half of them), with that of other listeners' after the same song, and with
        their sum. Empty where listeners and songs are not crossed.
    """
    curves = {
        song: {row.annotator: np.array([[row.arousal, row.valence]]) for row in rows.itertuples()}
        for song, rows in errors.groupby("song")
        if len(rows) > 1
    }
    try:
        song, listener, both = level_variances(curves)
    except DsamlError:
        return {}
    parts = np.maximum((listener, song, both), 0)  # (3, 2); the estimate of a small variance can be below 0
    others = {LISTENER: _of_others(errors, "annotator"), SONG: _of_others(errors, "song")}
    others[BOTH] = others[LISTENER] + others[SONG]
    shares = parts / parts.sum(0)
    return {
        "shares": {name: dict(zip(DIMENSIONS, row.tolist(), strict=True)) for name, row in zip(others, shares, strict=True)},
        "rank_if_known": {
            name: {d: float(stats.spearmanr(known[d], errors[d], nan_policy="omit").statistic) for d in DIMENSIONS}
            for name, known in others.items()
        },
    }


def _of_others(errors: pd.DataFrame, by: str) -> pd.DataFrame:
    """For each row the mean error of a drawn half of the rows with the same ``by``, itself not among them; NaN where there is none.

    The mean of *all* others would be low where the row itself is high, and so rank errors backwards where there is nothing to know;
    every second one would be other kinds of listeners, where kinds take turns.
    """
    half = errors.sample(frac=1, random_state=0).groupby(by).cumcount().reindex(errors.index) % 2
    means = errors.groupby([errors[by], half])[list(DIMENSIONS)].mean()
    places = pd.MultiIndex.from_arrays([errors[by], 1 - half])
    return means.reindex(places).set_index(errors.index)
