"""How far each scale looks (Figure 4 of the paper): maps of the last layer, their distances, and what Eq. 3 changes.

The *separation* of a song is how much farther the global map looks than the local one: the mean distance between a step and what it
attends to, in seconds, global minus local. Eq. 3 is there to keep the two scales apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dsaml import bootstrap
from dsaml.batches import SongStore
from dsaml.maml import mode
from dsaml.model import DSAML
from dsaml.recipes import NO_ATTENTION_LOSS, SUPERVISED

if TYPE_CHECKING:
    from dsaml.experiment import Experiment

BLOCK, SEPARATION = "figure4", "separation"  # the block of the claims, and its one cell
METHODS = (SUPERVISED, NO_ATTENTION_LOSS)  # with and without Eq. 3


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


def attention_separation(experiment: Experiment, seed: int) -> pd.DataFrame:
    """Separation of every test song, with and without Eq. 3, of one training seed.

    Returns
    -------
    DataFrame
        Columns method, seed, song, separation (seconds).
    """
    store, seconds = experiment.store, experiment.profile.audio.step_seconds
    parts = []
    for name in METHODS:
        values = separation(last_maps(experiment.model(name, seed)[0], store), seconds)
        parts.append(
            pd.DataFrame({"method": name, "seed": seed, "song": songs_shown(store), SEPARATION: values.tolist()})
        )
    return pd.concat(parts, ignore_index=True)


def separation_block(table: pd.DataFrame) -> dict[str, Any]:
    """The block ``figure4`` of the tables' payload, from :func:`attention_separation` of all training seeds.

    Returns
    -------
    dict
        ``rows``: for each method the mean separation with its interval; ``differences``: with Eq. 3 minus without, paired by song
        and seed; ``seeds``, ``songs`` and ``unit`` as in the other blocks.
    """
    cubes = {
        name: rows.pivot(index="seed", columns="song", values=SEPARATION).to_numpy()[:, :, None]  # (seeds, songs, 1)
        for name, rows in table.groupby("method", sort=False)
    }
    first, second = (cubes[name] for name in METHODS)  # the same seeds and songs on both sides
    change = bootstrap.interval(first - second) | {"p_floor": bootstrap.P_FLOOR, "seeds": "several" if len(first) > 1 else "one"}
    return {
        "rows": {name: {SEPARATION: bootstrap.interval(values)} for name, values in cubes.items()},
        "differences": {f"{METHODS[0]} | {METHODS[1]}": {SEPARATION: change}},
        "seeds": {name: len(values) for name, values in cubes.items()},
        "songs": table.song.nunique(),
        "unit": "songs and training seeds",
    }


def finding(attention: Mapping[str, Any]) -> str:
    """What ``attention.json`` says about Figure 4, in one sentence."""
    apart = {label: attention[label]["separation_seconds"] for label in ("with", "without")}
    change = apart["with"] - apart["without"]
    did = {-1: "draws the two scales together", 0: "moves nothing", 1: "draws the two scales apart"}[
        int(np.sign(change))
    ]
    return (
        f"On the test songs the global maps look {apart['without']:.2f} s farther than the local ones without Eq. 3, and "
        f"{apart['with']:.2f} s farther with it: here the diagonal loss {did} ({change:+.2f} s)."
    ).replace("-", "−")
