"""The inner loop that is used at test: chosen on validation listeners, from one grid for all models."""

from __future__ import annotations

import dataclasses
from typing import Any

from dsaml.config import MetaConfig
from dsaml.learn.batches import SongStore
from dsaml.learn.training import Progress, cross_song_tasks, mean_ccc, predict_along, query_labels
from dsaml.model.dsaml import DSAML

# Inner loops tried on validation listeners, for every row alike; the paper's (16 x .005), the demo's own (5 x .05), none
INNER_LRS, INNER_STEPS = (0.005, 0.01, 0.03, 0.05, 0.1, 0.2), (0, 1, 3, 5, 10, 16, 20)


def select_inner(
    store: SongStore,
    model: DSAML,
    config: MetaConfig,
    supports: int = 2,
    songs: int = 1,
    progress: Progress = lambda done, total: None,
) -> tuple[MetaConfig, list[dict[str, Any]]]:
    """Inner learning rate and steps with the best mean CCC on the *validation* listeners; the grid is returned as well.

    Parameters
    ----------
    config : MetaConfig
        Everything else about the inner loop.
    supports : int
        Support sets of each validation listener.
    songs : int
        Songs in a support set.
    progress : callable
        Called with (tasks done, tasks in all), each once for every learning rate.
    """
    tasks = cross_song_tasks(store, "validation", supports, songs)
    target = query_labels(store, tasks)
    grid: list[dict[str, Any]] = []
    for turn, inner_lr in enumerate(INNER_LRS):

        def done(count: int, total: int, turn: int = turn) -> None:
            progress(turn * total + count, len(INNER_LRS) * total)

        stops = INNER_STEPS if inner_lr == INNER_LRS[0] else INNER_STEPS[1:]  # without a step the rate does not matter
        settings = dataclasses.replace(config, inner_lr=inner_lr)
        for steps, predictions in predict_along(model, store, tasks, settings, stops, done).items():
            grid.append({"inner_lr": inner_lr, "inner_steps": steps, "ccc": mean_ccc(predictions, target)})
    best = max(grid, key=lambda row: row["ccc"])
    return dataclasses.replace(config, inner_lr=best["inner_lr"], inner_steps=best["inner_steps"]), grid
