"""Every model of the tables by name: what it is, how it is trained, which weights it starts from.

A profile turns into a dictionary of recipes; a table names its rows by the keys. Nothing else in the package decides what "w.o.
Adapter" or "CRNN, MAML" means.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from dsaml.baselines import BASELINES, Baseline, BaselineConfig, make_baseline
from dsaml.config import MetaConfig, ModelConfig, Profile, SupervisedConfig
from dsaml.model.dsaml import DSAML

DMER_MODEL = "DSAML"  # on averaged labels; Tables 1 and 3 show it, and what follows starts from it where a profile says so
NON_META = "non-meta model"  # second stage without MAML: supervised steps on averaged labels where MAML takes meta-steps
MAML_MEAN, MAML_ANNOTATOR = "MAML, mean-label tasks (Eq. 5)", "MAML, annotator tasks (Eq. 6)"
ANNOTATOR_LABELS = "non-meta model on annotators' labels"
NON_META_LONG = "non-meta model, MAML's passes"  # as many passes through songs as MAML makes
ANNOTATOR_LABELS_LONG = "non-meta model on annotators' labels, MAML's passes"
NO_LOCAL, NO_GLOBAL = "w.o. Local-Attention", "w.o. Global-Attention"
NO_ATTENTION_LOSS, NO_ADAPTER = "w.o. Attention-Loss", "w.o. Adapter"
RELEASED_POSITIONS = "DSAML, positions as released"  # where the profile has others
RECURRENT = ("crnn", "dnn")  # most of their time goes into recurrent steps, which many tasks can share
LONG_BATCH = 2**15  # songs in one step of the models with MAML's passes times D, at most: 32 songs at D = 1024
VARIANTS = {  # of the first stage: the four ablations of Table 3, and another kind of positions
    NO_LOCAL: {"local_attention": False},
    NO_GLOBAL: {"global_attention": False},
    NO_ATTENTION_LOSS: {"attention_loss_weight": 0.0},
    NO_ADAPTER: {"adapter": False},
    RELEASED_POSITIONS: {"positions": "relative-key"},
}
ABLATIONS = (NO_LOCAL, NO_GLOBAL, NO_ATTENTION_LOSS, NO_ADAPTER)


@dataclass(frozen=True)
class Recipe:
    """How one model comes about."""

    model: ModelConfig | BaselineConfig
    training: SupervisedConfig | MetaConfig
    start: str | None = None  # the recipe whose weights it begins with; None: random ones
    adaptation: MetaConfig | None = None  # how it adapts to a listener; None where it is never scored so

    def build(self, seed: int) -> DSAML | Baseline:
        """The model with random weights that follow from ``seed``."""
        torch.manual_seed(seed)
        return DSAML(self.model) if isinstance(self.model, ModelConfig) else make_baseline(self.model)


def baseline_name(name: str, meta: bool = False) -> str:
    """The row of a baseline: "CRNN", or "CRNN, MAML" (the dagger rows of Table 2)."""
    return f"{name.upper()}, MAML" if meta else name.upper()


def passes(config: SupervisedConfig | MetaConfig, steps: int | None = None) -> int:
    """How many times a song goes forward and backward through the model in so many steps (by default, in all of them)."""
    steps = config.steps if steps is None else steps
    if isinstance(config, SupervisedConfig):
        return steps * config.batch_size
    return steps * config.tasks_per_step * (config.inner_steps * config.support_songs + config.query_songs)


def recipes(profile: Profile) -> dict[str, Recipe]:
    """All recipes of a profile.

    The first stage trains DSAML and its variants on averaged labels (``warm_start``; in the paper's profile, which has no warm
    start, ``supervised``). In the second stage the non-meta models go on with supervised steps and the two kinds of MAML with
    meta-steps, all from the first stage's weights, or from random ones where there is no warm start. A baseline's MAML begins
    with the baseline. The non-meta models also exist with MAML's number of passes and, as in MAML, an adapter that is left alone
    where MAML leaves it alone; these do not stop early.
    """
    first_stage = profile.warm_start or profile.supervised
    start = DMER_MODEL if profile.warm_start else None
    out = {DMER_MODEL: Recipe(profile.model, first_stage)}
    for name, change in VARIANTS.items():
        out[name] = Recipe(dataclasses.replace(profile.model, **change), first_stage)
    plain, meta = profile.supervised, dataclasses.replace(profile.meta, tasks="annotator")
    batch = min(passes(meta, 1), max(1, LONG_BATCH // profile.model.dim))  # as many as MAML has, where memory allows
    steps = passes(meta) // batch
    long = dataclasses.replace(plain, batch_size=batch, steps=steps, patience=0, train_adapter=meta.train_adapter)
    for name, training in ((NON_META, plain), (NON_META_LONG, long)):
        out[name] = Recipe(profile.model, training, start, meta)
    for name, training in ((ANNOTATOR_LABELS, plain), (ANNOTATOR_LABELS_LONG, long)):
        out[name] = Recipe(profile.model, dataclasses.replace(training, labels="annotator"), start, meta)
    for name, training in ((MAML_MEAN, dataclasses.replace(meta, tasks="random")), (MAML_ANNOTATOR, meta)):
        out[name] = Recipe(profile.model, training, start, training)
    steps, tasks = profile.baseline_steps, profile.baseline_tasks
    meta = dataclasses.replace(meta, adapt="all", train_adapter=True, steps=steps, tasks_per_step=tasks)
    for name in BASELINES:
        model = BaselineConfig(name, profile.baseline_width, profile.model.slice_shape)
        own = dataclasses.replace(meta, tasks_at_once=min(meta.tasks_at_once, tasks) if name in RECURRENT else 1)
        out[baseline_name(name)] = Recipe(model, first_stage, None, own)
        out[baseline_name(name, meta=True)] = Recipe(model, own, baseline_name(name), own)
    return out


def digest(every: Mapping[str, Recipe], name: str) -> str:
    """First 8 hex digits of a hash of a recipe and everything that it starts from."""
    recipe = every[name]
    total = hashlib.sha256(repr(recipe).encode())
    if recipe.start:
        total.update(digest(every, recipe.start).encode())
    return total.hexdigest()[:8]
