"""How far each scale looks (Figure 4 of the paper): maps of the last layer, their distances, and what Eq. 3 changes.

The *separation* of a song is how much farther the global map looks than the local one: the mean distance between a step and what it
attends to, in seconds, global minus local. Eq. 3 is there to keep the two scales apart.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dsaml.learn.batches import SongStore
from dsaml.learn.maml import mode
from dsaml.model.dsaml import DSAML


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
