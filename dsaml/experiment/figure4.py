"""Figure 4 of the paper: how far each scale looks in the maps of the last layer, and what Eq. 3 changes in it.

The *separation* of a song is how much farther the global map looks than the local one: the mean distance between a step and what it
attends to, in seconds, global minus local. Eq. 3 is there to keep the two scales apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dsaml.evaluate import bootstrap
from dsaml.experiment.recipes import DMER_MODEL, NO_ATTENTION_LOSS
from dsaml.experiment.results import rounded
from dsaml.experiment.run import Experiment
from dsaml.learn.batches import SongStore
from dsaml.learn.maml import mode
from dsaml.model.dsaml import DSAML

BLOCK, SEPARATION = "figure4", "separation"  # the block of the claims, and its one cell
METHODS = (DMER_MODEL, NO_ATTENTION_LOSS)  # with and without Eq. 3


def songs_shown(store: SongStore) -> list[str]:
    """Test songs with at least ``store.steps`` steps; their first ``store.steps`` are looked at."""
    return [s for s in store.dataset.split.songs["test"] if len(store.inputs(s)[0]) >= store.steps]


def last_maps(model: DSAML, store: SongStore) -> dict[str, Tensor]:
    """Maps of the last layer, averaged over heads: "local" and "global", each (songs, T, T), of :func:`songs_shown`."""
    found: dict[str, list[Tensor]] = {"local": [], "global": []}
    with torch.no_grad(), mode(model, "eval"):
        for song in songs_shown(store):
            x, embedding = store.inputs(song)
            output = model(x[None], embedding[None], store.stage)
            found["local"].append(output.attention_local[0, -1].mean(0).cpu())
            found["global"].append(output.attention_global[0, -1].mean(0).cpu())
    return {scale: torch.stack(maps) for scale, maps in found.items()}


def mean_distance(maps: Tensor, step_seconds: float) -> Tensor:
    """Mean distance between a step and what it attends to: (songs, T, T) -> (songs,), in seconds."""
    step = torch.arange(maps.shape[-1])
    return (maps * (step[:, None] - step).abs()).sum(-1).mean(-1) * step_seconds


def separation(maps: Mapping[str, Tensor], step_seconds: float) -> Tensor:
    """Mean distance of the global maps minus that of the local ones: (songs,), in seconds."""
    return mean_distance(maps["global"], step_seconds) - mean_distance(maps["local"], step_seconds)


def separations(experiment: Experiment, name: str, seeds: Sequence[int]) -> np.ndarray:
    """Separation of every test song by a model of each training seed: (seeds, songs), in seconds, songs by their names."""
    store, step_seconds = experiment.store, experiment.profile.audio.step_seconds
    found = [separation(last_maps(experiment.model(name, seed)[0], store), step_seconds).tolist() for seed in seeds]
    return np.array(found)[:, np.argsort(songs_shown(store))]


def separation_block(experiment: Experiment, seeds: Sequence[int]) -> dict[str, Any]:
    """The block ``figure4`` of the tables' payload.

    Returns
    -------
    dict
        ``rows``: for each method the mean separation with its interval; ``differences``: with Eq. 3 minus without, paired by song
        and seed; ``seeds``, ``songs`` and ``unit`` as in the other blocks.
    """
    crossed = {name: separations(experiment, name, seeds)[..., None] for name in METHODS}  # (seeds, songs, 1)
    first, second = crossed.values()
    about = {"p_floor": bootstrap.P_FLOOR, "seeds": "several" if len(seeds) > 1 else "one"}
    return {
        "rows": {name: {SEPARATION: bootstrap.interval(values)} for name, values in crossed.items()},
        "differences": {" | ".join(METHODS): {SEPARATION: bootstrap.interval(first - second) | about}},
        "seeds": dict.fromkeys(METHODS, len(seeds)),
        "songs": first.shape[1],
        "unit": "songs and training seeds",
    }


def attention_maps(experiment: Experiment, seed: int) -> dict[str, Any]:
    """The maps to look at (``attention.json``), averaged over heads and over the test songs' first 30 s, with and without Eq. 3.

    Also the maps of the first test song, the mean of the diagonals beside their targets, and the separation of the scales.
    """
    store, step_seconds = experiment.store, experiment.profile.audio.step_seconds
    songs, config = songs_shown(store), experiment.profile.model
    out: dict[str, Any] = {"targets": {"local": config.alpha, "global": config.beta}}
    for label, name in zip(("with", "without"), METHODS, strict=True):
        model, history = experiment.model(name, seed)
        found = last_maps(model, store)
        out[label] = {
            "validation_ccc": max(s for _, s in history.validation),
            "separation_seconds": float(separation(found, step_seconds).mean()),
        }
        for scale, maps in found.items():
            out[label][scale] = {
                "mean_map": rounded(maps.mean(0)),
                "song_map": rounded(maps[0]),
                "diagonal": float(maps.diagonal(dim1=-2, dim2=-1).mean()),
                "mean_distance_seconds": float(mean_distance(maps, step_seconds).mean()),
            }
    return out | {"song": songs[0], "songs": len(songs)}


def finding(attention: Mapping[str, Any]) -> str:
    """What ``attention.json`` says about Figure 4, in one sentence."""
    apart = {label: attention[label]["separation_seconds"] for label in ("with", "without")}
    change = apart["with"] - apart["without"]
    moves = ("moves nothing", "draws the two scales apart", "draws the two scales together")  # by 0, 1, -1
    return (
        f"On the test songs the global maps look {apart['without']:.2f} s farther than the local ones without Eq. 3, and "
        f"{apart['with']:.2f} s farther with it: here the diagonal loss {moves[int(np.sign(change))]} ({change:+.2f} s)."
    ).replace("-", "−")
