"""Every model of the tables by name: what it is, how it is trained, which weights it starts from.

A profile turns into a dictionary of recipes; a table names its rows by the keys. Nothing else in the package decides what "w.o.
Adapter" or "CRNN, MAML" means.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

import dsaml.baselines
from dsaml.baselines import BASELINES, Baseline, BaselineConfig, make_baseline
from dsaml.config import MetaConfig, ModelConfig, Profile, SupervisedConfig
from dsaml.model import DSAML

SUPERVISED, NON_META = "DSAML", "non-meta model"  # on averaged labels; the second one goes on from the first
MAML_MEAN, MAML_ANNOTATOR = "MAML, mean-label tasks (Eq. 5)", "MAML, annotator tasks (Eq. 6)"
ANNOTATOR_LABELS = "non-meta model on annotators' labels"
NON_META_LONG = "non-meta model, MAML's passes"  # as many passes through songs as MAML makes
ANNOTATOR_LABELS_LONG = "non-meta model on annotators' labels, MAML's passes"
NO_LOCAL, NO_GLOBAL = "w.o. Local-Attention", "w.o. Global-Attention"
NO_ATTENTION_LOSS, NO_ADAPTER = "w.o. Attention-Loss", "w.o. Adapter"
ABLATIONS = {
    NO_LOCAL: {"local_attention": False},
    NO_GLOBAL: {"global_attention": False},
    NO_ATTENTION_LOSS: {"attention_loss_weight": 0.0},
    NO_ADAPTER: {"adapter": False},
}


@dataclass(frozen=True)
class Recipe:
    """How one model comes about."""

    model: ModelConfig | BaselineConfig
    training: SupervisedConfig | MetaConfig | None  # None: random weights
    start: str | None = None  # the recipe whose weights it begins with; None: random ones

    def build(self, seed: int) -> DSAML | Baseline:
        """The model with random weights that follow from ``seed``."""
        torch.manual_seed(seed)
        return DSAML(self.model) if isinstance(self.model, ModelConfig) else make_baseline(self.model)


def baseline_name(name: str, meta: bool = False) -> str:
    """The row of a baseline: "CRNN", or "CRNN, MAML" (the dagger rows of Table 2)."""
    return f"{name.upper()}, MAML" if meta else name.upper()


def recipes(profile: Profile) -> dict[str, Recipe]:
    """All recipes of a profile.

    DSAML and its ablations train on averaged labels first (``warm_start``; in the paper's profile ``supervised``, for it has no
    warm start); the non-meta models go on with supervised steps, the two kinds of MAML with meta-steps, all from the same
    weights. A baseline's MAML begins with the baseline.
    """
    first = profile.warm_start or profile.supervised
    start = SUPERVISED if profile.warm_start else None
    out = {SUPERVISED: Recipe(profile.model, first)}
    out |= {name: Recipe(dataclasses.replace(profile.model, **change), first) for name, change in ABLATIONS.items()}
    annotator = dataclasses.replace(profile.supervised, labels="annotator")
    out |= {
        NON_META: Recipe(profile.model, profile.supervised, start),
        ANNOTATOR_LABELS: Recipe(profile.model, annotator, start),
        MAML_MEAN: Recipe(profile.model, dataclasses.replace(profile.meta, tasks="random"), start),
        MAML_ANNOTATOR: Recipe(profile.model, dataclasses.replace(profile.meta, tasks="annotator"), start),
    }
    meta = dataclasses.replace(
        profile.meta,
        tasks="annotator",
        adapt="all",
        engine="learn2learn",
        train_adapter=True,
        tasks_at_once=1,
        steps=profile.baseline_steps,
    )
    for name in BASELINES:
        model = BaselineConfig(name, profile.baseline_width, profile.model.slice_shape)
        out[baseline_name(name)] = Recipe(model, first)
        out[baseline_name(name, meta=True)] = Recipe(model, meta, baseline_name(name))
    return out


def digest(every: Mapping[str, Recipe], name: str) -> str:
    """First 8 hex digits of a hash of a recipe and everything that it starts from."""
    recipe = every[name]
    total = hashlib.sha256(repr(recipe).encode())
    if isinstance(recipe.model, BaselineConfig):
        total.update(Path(dsaml.baselines.__file__).read_bytes())
    if recipe.start:
        total.update(digest(every, recipe.start).encode())
    return total.hexdigest()[:8]
