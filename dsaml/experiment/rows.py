"""The rows of tables: a trained model under one way to use it, what each one is called, and in which order they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from dsaml.baselines import BASELINES
from dsaml.evaluate.floors import CONSTANT, ORACLES, SONG_MEAN, SUPPORT_LAST, SUPPORT_MEAN
from dsaml.experiment import recipes
from dsaml.experiment.recipes import MAML_ANNOTATOR, MAML_MEAN, NON_META, baseline_name

FLOORS = (CONSTANT, SONG_MEAN, SUPPORT_MEAN, SUPPORT_LAST)
FINE_TUNED, SHIFTED = "non-meta model, fine-tuned", "non-meta model, shifted by the support mean"
HEAD_ONLY = "MAML, annotator tasks, only the head adapted at test"
BEFORE, AS_TRAINED = f"{MAML_ANNOTATOR}, before", f"{MAML_ANNOTATOR}, inner loop as in training"
BASELINE_MODELS = tuple(baseline_name(name, meta) for name in BASELINES for meta in (False, True))  # Table 2
SHOTS = (1, 3, 5)  # songs in the support set


@dataclass(frozen=True)
class Row:
    """A trained model under one way to use it, for one listener."""

    name: str  #: as it stands in the tables
    #: the inner loop: "chosen" on validation listeners, that of its "training", "none" (the model as it is), or "shift": as it is,
    #: but shifted by the support labels' mean
    inner: Literal["chosen", "training", "none", "shift"] = "chosen"
    songs: int = 1  #: in the support set
    head_only: bool = False  #: adapt the head alone, not what the recipe says
    adapted: bool = False  #: with the checkpoint that was best after adaptation, of the two that a model without MAML has
    prefix: bool = False  #: scored under the prefix protocol too, not in cross-song alone


def rows_of(model: str) -> list[Row]:
    """The rows that a model has in PDMER's tables.

    Every model has one after adaptation. One that is not meta-trained also has one as it is, and the non-meta model one shifted by
    the support mean; MAML with annotator tasks also before adaptation, with the inner loop of its training, with more support
    songs, and with the head alone adapted.
    """
    prefix = model not in BASELINE_MODELS  # adapting each of these to every long song takes hours
    plain = label_of(model) != model  # not meta-trained
    rows = [Row(label_of(model), adapted=plain, prefix=prefix)]
    if plain:
        rows.append(Row(model, "none", prefix=prefix))
    if model == NON_META:
        rows.append(Row(SHIFTED, "shift"))
    if model == MAML_ANNOTATOR:
        rows += [Row(BEFORE, "none"), Row(AS_TRAINED, "training")]
        rows += [Row(shots_label(songs), songs=songs) for songs in SHOTS[1:]]
        rows.append(Row(HEAD_ONLY, head_only=True))
    return rows


def label_of(model: str) -> str:
    """The row of a model after adaptation: MAML's own name, or "…, fine-tuned"."""
    return model if model in (MAML_MEAN, MAML_ANNOTATOR) or model.endswith(", MAML") else f"{model}, fine-tuned"


def shots_label(songs: int) -> str:
    """The row of annotator-task MAML with more than one support song."""
    return MAML_ANNOTATOR if songs == 1 else f"{MAML_ANNOTATOR}, {songs} songs"


def order_rows(scores: pd.DataFrame) -> pd.DataFrame:
    """A scores table with floors first, then models from the trivial to the best, oracles last."""
    plain = (recipes.NON_META_LONG, recipes.ANNOTATOR_LABELS, recipes.ANNOTATOR_LABELS_LONG)
    order = [
        *FLOORS,
        *(row for n in map(baseline_name, BASELINES) for row in (n, label_of(n), f"{n}, MAML")),
        *(NON_META, SHIFTED, FINE_TUNED, *(row for name in plain for row in (name, label_of(name)))),
        *(MAML_MEAN, BEFORE, HEAD_ONLY, AS_TRAINED, MAML_ANNOTATOR, *(shots_label(n) for n in SHOTS[1:])),
        *(*recipes.ABLATIONS, recipes.DMER_MODEL, *ORACLES),
    ]
    place = {name: k for k, name in enumerate(order)}
    return scores.sort_values("method", key=lambda names: names.map(place), kind="stable").reset_index(drop=True)
