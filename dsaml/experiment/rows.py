"""The rows of tables: what each one is called, and in which order they stand."""

from __future__ import annotations

import pandas as pd

from dsaml.evaluate import evaluation as ev
from dsaml.experiment.recipes import (
    ABLATIONS,
    ANNOTATOR_LABELS,
    ANNOTATOR_LABELS_LONG,
    MAML_ANNOTATOR,
    MAML_MEAN,
    NO_ATTENTION_LOSS,
    NON_META,
    NON_META_LONG,
    SUPERVISED,
    baseline_name,
)
from dsaml.model.baselines import BASELINES

FINE_TUNED, SHIFTED = "non-meta model, fine-tuned", "non-meta model, shifted by the support mean"
HEAD_ONLY = "MAML, annotator tasks, only the head adapted at test"
BEFORE, AS_TRAINED = f"{MAML_ANNOTATOR}, before", f"{MAML_ANNOTATOR}, inner loop as in training"
BASELINE_MODELS = tuple(baseline_name(name, meta) for name in BASELINES for meta in (False, True))  # Table 2
SHOTS = (1, 3, 5)  # songs in the support set
DEMO_MODELS = (SUPERVISED, NO_ATTENTION_LOSS, NON_META, MAML_MEAN, MAML_ANNOTATOR)  # what make book trains


def label_of(name: str) -> str:
    """The row of a model after adaptation: MAML's own name, or "…, fine-tuned"."""
    return name if name in (MAML_MEAN, MAML_ANNOTATOR) or name.endswith(", MAML") else f"{name}, fine-tuned"


def shots_label(songs: int) -> str:
    """The row of annotator-task MAML with more than one support song."""
    return MAML_ANNOTATOR if songs == 1 else f"{MAML_ANNOTATOR}, {songs} songs"


def order_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Floors first, then models from the trivial to the best, oracles last."""
    rank = [
        *("constant (training mean)", "the song's own mean (oracle)", "support mean", "last support value"),
        *(label for name in BASELINES for label in _baseline_labels(name)),
        *(NON_META, SHIFTED, FINE_TUNED, NON_META_LONG, label_of(NON_META_LONG)),
        *(ANNOTATOR_LABELS, label_of(ANNOTATOR_LABELS), ANNOTATOR_LABELS_LONG, label_of(ANNOTATOR_LABELS_LONG)),
        *(MAML_MEAN, BEFORE, HEAD_ONLY, AS_TRAINED, MAML_ANNOTATOR, *(shots_label(n) for n in SHOTS[1:])),
        *(*ABLATIONS, SUPERVISED, ev.AVERAGE_CURVE, ev.AVERAGE_CURVE_SPREAD, ev.OWN_CURVE),
    ]
    place = {name: k for k, name in enumerate(rank)}
    return table.sort_values("method", key=lambda names: names.map(place), kind="stable").reset_index(drop=True)


def _baseline_labels(name: str) -> tuple[str, str, str]:
    return baseline_name(name), label_of(baseline_name(name)), baseline_name(name, meta=True)
