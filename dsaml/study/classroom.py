"""What a lecturer sees of a class: curves as they arrive, how far they agree, and everybody's prediction of the next song."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from dsaml.config import DIMENSIONS
from dsaml.evaluate.metrics import ccc
from dsaml.experiment.results import plain, rounded
from dsaml.study.design import CLASS, Design
from dsaml.study.export import as_curve, name_of
from dsaml.study.steps import DRAW, steps_of
from dsaml.study.store import Store


def spread_of(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and SD over people (P, T, 2) at each step, (T, 2) each; NaN where fewer than one, or two, said something."""
    people, *shape = curves.shape
    table = pd.DataFrame(curves.reshape(people, int(np.prod(shape))))
    return table.mean().to_numpy().reshape(shape), table.std().to_numpy().reshape(shape)


def agreement(curves: np.ndarray) -> list[float | None]:
    """Mean CCC of two people's curves (P, T, 2), over all pairs and the steps of both, by dimension; None with fewer than two."""
    out: list[float | None] = []
    for part in np.moveaxis(curves, -1, 0):  # (P, T)
        pairs = [(one, other, np.isfinite(one) & np.isfinite(other)) for one, other in combinations(part, 2)]
        found = [float(ccc(one[both], other[both])) for one, other, both in pairs if both.any()]
        out.append(float(np.mean(found)) if found else None)
    return out


def state_of(design: Design, store: Store) -> dict[str, Any]:
    """A study for its experimenter: everybody's step and link; of a class, for the wall, curves, spread and predictions instead."""
    answers, links, steps = store.everything(), store.links(), steps_of(design)
    people = [{"id": name_of(who), "done": len(answers.get(who, [])), "of": len(steps)} for who in links]
    if design.kind != CLASS:
        return {"people": [person | {"link": f"/p/{link}"} for person, link in zip(people, links.values(), strict=True)]}
    at = steps.index(DRAW)
    drawn = [(given[at][1], as_curve(given[at][0])) for given in answers.values() if len(given) > at]
    drawn.sort(key=lambda item: item[0])  # as they came
    curves = np.array([curve for _, curve in drawn]).reshape(-1, design.steps, 2)
    terms = design.songs[1].terms
    predicted = np.array([terms.curve(design.personal(curve)) for curve in curves]).reshape(curves.shape)
    return {"people": people, "songs": [_song(curves), _song(predicted)]}


def _song(curves: np.ndarray) -> dict[str, Any]:
    """Curves (P, T, 2) of one song with mean, spread, agreement, and how the spread grew with every curve that came."""
    mean, sd = spread_of(curves)
    growth = [[n, *rounded(pd.DataFrame(spread_of(curves[:n])[1]).mean(), 3)] for n in range(2, len(curves) + 1)]
    common = dict(zip(DIMENSIONS, agreement(curves), strict=True))
    shown = {"curves": curves, "mean": mean, "sd": sd}
    return plain({**{name: rounded(values, 3) for name, values in shown.items()}, "agreement": common, "growth": growth})
