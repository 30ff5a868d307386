"""Averaged labels of songs that are new, by level and shape heads; also by heads for which raters count as they are reliable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from dsaml.evaluate import metrics
from dsaml.evaluate.floors import CONSTANT, training_mean
from dsaml.evaluate.scores import UNTRAINED
from dsaml.experiment.listeners_protocols import HEADS, Room, Table, choose_gain, score_rows
from dsaml.listeners.heads import TwoHeads, fit_heads, left_out
from dsaml.listeners.raters import reliability, weighted_labels

LEVEL, GAINED, WEIGHTED = "level head", "two heads, gain for CCC", "two heads, weighted raters"


def averaged(room: Room, heads: TwoHeads, others: Mapping[str, TwoHeads]) -> tuple[Table, dict[str, Any]]:
    """Averaged labels of the test songs, each as long as it is; the "annotator" is the song."""
    data, labels, known = room.experiment.dataset, room.labels, room.known
    constant = training_mean(data)
    floor = np.mean([metrics.rmse(np.broadcast_to(constant, labels[s].shape).T, labels[s].T) for s in known], 0)
    gain = choose_gain(
        lambda g: [replace(others[s], gain=g).curve(room.songs[s], len(labels[s])) for s in known],
        [labels[s] for s in known],
        floor,
    )
    gained = replace(heads, gain=gain)
    weighted, about = weigh_raters(room, others)
    asked = [(song, "", labels[song]) for song in data.split.songs["test"]]
    answers: dict[str, Callable[[str, int], np.ndarray]] = {
        CONSTANT: lambda song, steps: constant,
        LEVEL: lambda song, steps: heads.level_of(room.songs[song]),
        HEADS: lambda song, steps: heads.curve(room.songs[song], steps),
        GAINED: lambda song, steps: gained.curve(room.songs[song], steps),
        WEIGHTED: lambda song, steps: weighted.curve(room.songs[song], steps),
    }
    tables = [
        score_rows(asked, [say(s, len(y)) for s, _, y in asked], name, UNTRAINED) for name, say in answers.items()
    ]
    return pd.concat(tables), {"gain": gain.tolist(), "weighted_raters": about}


def weigh_raters(room: Room, others: Mapping[str, TwoHeads]) -> tuple[TwoHeads, dict[str, Any]]:
    """Heads on labels in which raters count as they are reliable, and whether left-out songs are better for it.

    Reliability is learned anew wherever songs are left out, and what is left out is scored against the plain averaged label. A song
    that fewer than two of these raters have keeps its averaged label.
    """
    tracks, labels, known = room.tracks("train", "validation"), room.labels, room.known

    def fit(names: Sequence[str]) -> tuple[TwoHeads, np.ndarray]:
        own = {who: {s: mine[s] for s in names if s in mine} for who, mine in tracks.items()}
        found = reliability(own)
        weighted = {s: y[: len(labels[s])] for s, y in weighted_labels(own, found.weights).items()}
        return fit_heads(room.songs, labels | weighted, names), found.comes_back

    def error(heads: Mapping[str, TwoHeads]) -> np.ndarray:
        return np.mean([metrics.rmse(heads[s].curve(room.songs[s], len(labels[s])).T, labels[s].T) for s in known], 0)

    plain, weighted = error(others), error(left_out(known, lambda names: fit(names)[0]))
    heads, comes_back = fit(known)
    about = {"used": weighted < plain, "left_out_rmse": weighted, "left_out_rmse_unweighted": plain, "comes_back": comes_back}
    return heads, {"raters": len(tracks)} | {name: value.tolist() for name, value in about.items()}
