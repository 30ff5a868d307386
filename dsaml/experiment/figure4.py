"""Figure 4 as a claim: what Eq. 3 changes in how far each scale looks (:mod:`dsaml.evaluate.attention`), over songs and seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from dsaml.evaluate import bootstrap
from dsaml.evaluate.attention import last_maps, separation, songs_shown
from dsaml.experiment.recipes import FIRST_STAGE, NO_ATTENTION_LOSS
from dsaml.experiment.run import Experiment

BLOCK, SEPARATION = "figure4", "separation"  # the block of the claims, and its one cell
METHODS = (FIRST_STAGE, NO_ATTENTION_LOSS)  # with and without Eq. 3


def attention_separation(experiment: Experiment, seed: int) -> pd.DataFrame:
    """Separation of every test song, with and without Eq. 3, of one training seed.

    Returns
    -------
    DataFrame
        Columns method, seed, song, separation (seconds).
    """
    store, parts = experiment.store, []
    for name in METHODS:
        maps = last_maps(experiment.model(name, seed)[0], store)
        values = separation(maps, experiment.profile.audio.step_seconds).tolist()
        parts.append(pd.DataFrame({"method": name, "seed": seed, "song": songs_shown(store), SEPARATION: values}))
    return pd.concat(parts, ignore_index=True)


def separation_block(separations: pd.DataFrame) -> dict[str, Any]:
    """The block ``figure4`` of the tables' payload, from :func:`attention_separation` of all training seeds.

    Returns
    -------
    dict
        ``rows``: for each method the mean separation with its interval; ``differences``: with Eq. 3 minus without, paired by song
        and seed; ``seeds``, ``songs`` and ``unit`` as in the other blocks.
    """
    crossed = {
        name: rows.pivot(index="seed", columns="song", values=SEPARATION).to_numpy()[:, :, None]  # (seeds, songs, 1)
        for name, rows in separations.groupby("method", sort=False)
    }
    first, second = (crossed[name] for name in METHODS)  # the same seeds and songs on both sides
    seeds = {"p_floor": bootstrap.P_FLOOR, "seeds": "several" if len(first) > 1 else "one"}
    return {
        "rows": {name: {SEPARATION: bootstrap.interval(values)} for name, values in crossed.items()},
        "differences": {" | ".join(METHODS): {SEPARATION: bootstrap.interval(first - second) | seeds}},
        "seeds": {name: len(values) for name, values in crossed.items()},
        "songs": separations.song.nunique(),
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
