"""Every setting of the paper and of the demo, one comment each.

``PAPER`` follows the section "Implementation Details"; where the paper is silent the authors' released code decides.
``DEMO`` keeps the structure and shrinks the sizes, so that one laptop core trains it in minutes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from dsaml.errors import DsamlError

DIMENSIONS = ("arousal", "valence")  # the order of every last axis of 2
METRICS = ("ccc", "pcc", "rmse")
PCC_EPS = 1e-8  # in the denominator of PCC, as in the released code
STEP_SECONDS = 0.5  # between two labels (2 Hz)
LABEL_START = 15.0  # s; earlier labels are unstable and not used, as in the paper
CLIP_STEPS = 60  # labels of a 45 s clip: 15 to 45 s at 2 Hz
FEWEST_STEPS = 10  # labels (5 s) that training and the protocols ask of a song; a shorter one has no curve to score


@dataclass(frozen=True)
class AudioConfig:
    """Input Preprocessor: how audio becomes one log-mel slice per label."""

    sample_rate: int = 44_100  # Hz; other rates are resampled to it
    step_seconds: float = STEP_SECONDS  # one label and one slice every 0.5 s (2 Hz)
    label_start: float = LABEL_START  # s; annotations before it are unstable and were removed by the data sets
    n_fft: int = 2646  # samples, 60 ms
    hop_length: int = 441  # samples, 10 ms
    n_mels: int = 128  # mel bands
    log_offset: float = 1e-6  # log(mel + offset)
    pool: tuple[int, int] = (1, 1)  # average-pool each slice by (time, mel); (1, 1) is the paper's 51 x 128


@dataclass(frozen=True)
class ModelConfig:
    """DSAML (Figures 2 and 3). The four ablations of Table 3 are four fields."""

    dim: int = 1024  # D, the width of the global embedding and of everything after the adapter
    heads: int = 16  # attention heads
    layers: int = 3  # transformer layers, shared by both scales
    feed_forward: int = 2048  # hidden width of each transformer layer
    dropout: float = 0.1  # hidden, attention and head dropout
    layer_norm_eps: float = 1e-12  # as in BERT, which the released code builds on
    context_local: int = 5  # n_l of Eq. 1, in steps of 0.5 s
    context_global: int = 30  # n_g of Eq. 1, in steps
    alpha: float = 0.5  # target of the local diagonal, Eq. 3
    beta: float = 0.05  # target of the global diagonal, Eq. 3
    attention_loss_weight: float = 1.0  # weight of Eq. 3 in the loss; 0 = "w.o. Attention-Loss"
    local_attention: bool = True  # False = "w.o. Local-Attention"
    global_attention: bool = True  # False = "w.o. Global-Attention"
    adapter: bool = True  # False = "w.o. Adapter": the global embedding alone
    fusion_linear: bool = False  # Linear D -> D after z = sigmoid(z_l + z_g) (released code, not in the paper)
    positions: Literal["sinusoidal", "relative-key", "none"] = "relative-key"  # the paper names none; as released
    max_positions: int = 512  # longest sequence of the relative-key embeddings, in steps
    slice_shape: tuple[int, int] = (51, 128)  # (time, mel) of one log-mel slice after pooling

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise DsamlError(f"ModelConfig: dim {self.dim} is not divisible by heads {self.heads}; change one of them")
        if self.dim % 4:
            raise DsamlError(f"ModelConfig: dim {self.dim} must be a multiple of 4 (the BiLSTM has dim / 4 units each way)")
        if not (self.local_attention or self.global_attention):
            raise DsamlError("ModelConfig: at least one of local_attention and global_attention must stay on")


def released(config: ModelConfig = ModelConfig()) -> ModelConfig:
    """The variant of the authors' released code: linear layer after fusion, targets .9 / .1."""
    return dataclasses.replace(config, fusion_linear=True, positions="relative-key", alpha=0.9, beta=0.1)


@dataclass(frozen=True)
class LoopConfig:
    """What every kind of training has: the outer loop."""

    steps: int = 2000  # of the optimizer; MAML's "episodes"
    learning_rate: float = 5e-5  # Adam
    weight_decay: float = 0.0  # decoupled (AdamW); 0 is plain Adam
    loss: Literal["score", "mse"] = "score"  # 1 - mean(CCC, PCC, 1 - RMSE), or the mean squared error; in the inner loop too
    clip_norm: float = 0.0  # largest gradient norm; 0 = no clipping
    schedule: Literal["constant", "cosine"] = "constant"  # of the learning rate
    patience: int = 0  # validations without a better score before training stops early; 0 = never
    train_adapter: bool = True  # False: the adapter stays as the weights that training starts from have it


@dataclass(frozen=True)
class SupervisedConfig(LoopConfig):
    """Plain (non-meta) training on mean labels or on single annotators' labels."""

    labels: Literal["mean", "annotator"] = "mean"  # averaged, or a song again for each annotator who rated it
    batch_size: int = 15  # songs per step


@dataclass(frozen=True)
class MetaConfig(LoopConfig):
    """MAML (Eq. 4) over tasks (Eq. 5: ``random`` songs with mean labels; Eq. 6: one ``annotator`` per task)."""

    tasks: Literal["annotator", "random"] = "annotator"  # Eq. 6 or Eq. 5
    tasks_per_step: int = 16  # tasks accumulated in one outer step
    tasks_at_once: int = 1  # of them computed together: faster for small models, and as much more memory
    support_songs: int = 1  # songs in the support set
    query_songs: int = 15  # songs in the query set
    inner_steps: int = 16  # k of Eq. 4
    inner_lr: float = 5e-3  # learning rate of the inner gradient steps
    adapt: Literal["all", "no-adapter", "head"] = "all"  # parameters that the inner loop changes; "head" is ANIL
    engine: Literal["stacked", "learn2learn"] = "stacked"  # all tasks at once, or one by one through the library
    second_order: bool = False  # False = first-order MAML, as released
    inner_mode: Literal["train", "eval"] = "eval"  # dropout and batch statistics while adapting
    query_mode: Literal["train", "eval"] = "train"  # the same, on the query set during meta-training
    test_mode: Literal["train", "eval"] = "eval"  # the same, for every prediction that is scored


@dataclass(frozen=True)
class Profile:
    """Everything one run needs; its hash stands in every result file."""

    name: str
    audio: AudioConfig = field(default_factory=AudioConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    warm_start: SupervisedConfig | None = None  # supervised steps on mean labels before MAML; the paper has none
    supervised: SupervisedConfig = field(default_factory=SupervisedConfig)  # the non-meta model
    meta: MetaConfig = field(default_factory=MetaConfig)
    encoder: str = "imagebind"  # global encoder, one of ENCODERS
    embeddings: Literal["by-length", "song", "step"] = (
        "by-length"  # one global embedding for each song, for each step, or, as released, for a song of at most 60 steps
    )
    baseline_width: float = 1.0  # of the four baselines; 1 is as published
    baseline_steps: int = 2000  # MAML steps of the four baselines
    baseline_tasks: int = 16  # tasks in one of these steps
    validate_every: int = 50  # steps between validations; the best checkpoint is the one used
    seeds: tuple[int, ...] = (0, 1, 2)  # training seeds of a table

    def digest(self) -> str:
        """First 12 hex digits of the SHA-256 of all settings."""
        settings = dataclasses.asdict(self)
        if self.embeddings == "by-length":  # so it was when there was no choice
            del settings["embeddings"]
        text = json.dumps(settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


LARGEST_SEED = 2**63 - 1  # what torch and NumPy both take

PAPER = Profile(name="paper")

_DEMO_LOOP: dict[str, Any] = {"learning_rate": 3e-3, "weight_decay": 0.1, "clip_norm": 1.0, "schedule": "cosine", "patience": 6}

DEMO = Profile(
    name="demo",
    audio=AudioConfig(pool=(4, 2)),
    model=ModelConfig(
        dim=64,
        heads=4,
        feed_forward=128,
        dropout=0.15,
        slice_shape=(13, 64),
        positions="sinusoidal",  # better on validation songs than the released ones, and faster; Table 3 has a row
    ),
    warm_start=SupervisedConfig(steps=400, batch_size=16, **_DEMO_LOOP),
    supervised=SupervisedConfig(steps=300, batch_size=16, **_DEMO_LOOP),
    meta=MetaConfig(
        steps=700,
        tasks_per_step=12,
        tasks_at_once=12,
        query_songs=4,
        inner_steps=5,
        inner_lr=0.05,
        adapt="no-adapter",
        train_adapter=False,
        **_DEMO_LOOP,
    ),
    encoder="mel",
    baseline_width=0.5,
    baseline_steps=200,
    baseline_tasks=6,
    validate_every=25,
    seeds=(0,),
)

PROFILES = {"demo": DEMO, "paper": PAPER}
ENCODERS = ("mel", "imagebind", "imagebind-44k")  # the last one hears audio at 44.1 kHz, as in the released code


def get_profile(name: str) -> Profile:
    """Look a profile up by name: one of ``PROFILES``, or what :func:`adjusted` called it, as "paper-mel-3-steps".

    Raises
    ------
    DsamlError
        If there is no such profile.
    """
    known, encoders = ("|".join(map(re.escape, names)) for names in (PROFILES, ENCODERS))
    more = r"(?:-(song|step)-embeddings)?(?:-([1-9]\d{0,8})-steps)?(?:-([1-9]\d{0,4})-and-([1-9]\d{0,4})-songs)?"
    parts = re.fullmatch(rf"({known})(?:-({encoders}))?(-released)?{more}", name)
    if parts is None:
        raise DsamlError(f"profile '{name}' does not exist; choose one of: {', '.join(PROFILES)}")
    base, encoder, variant, embeddings, steps, support, query = parts.groups()
    songs = (int(support), int(query)) if support else None
    changed = {"variant": "released" if variant else "paper", "steps": int(steps) if steps else None, "songs": songs}
    return adjusted(PROFILES[base], encoder, **changed, embeddings=embeddings)


def adjusted(
    profile: Profile,
    encoder: str | None = None,
    variant: str = "paper",
    steps: int | None = None,
    songs: tuple[int, int] | None = None,
    embeddings: str | None = None,
) -> Profile:
    """One of ``PROFILES`` with what may be changed about it; its name, which stands in every stamp, says what that is.

    Parameters
    ----------
    encoder : str, optional
        Another global encoder, one of ``ENCODERS``.
    variant : {"paper", "released"}
        "released": the model is that of the authors' code (:func:`released`).
    steps : int, optional
        Outer steps of every training, in place of the profile's own: a few of them try everything out.
    songs : tuple of int, optional
        Support and query songs of a task in meta-training.
    embeddings : {"song", "step"}, optional
        What has a global embedding of its own, in place of "by-length".
    """
    name, changes = profile.name, {}
    if encoder not in (None, profile.encoder):
        name, changes = f"{name}-{encoder}", {"encoder": encoder}
    if variant == "released":
        name, changes = f"{name}-released", changes | {"model": released(profile.model)}
    if embeddings is not None:
        name, changes = f"{name}-{embeddings}-embeddings", changes | {"embeddings": embeddings}
    if steps is not None:
        name, changes = f"{name}-{steps}-steps", changes | {"baseline_steps": steps}
        trainings = {key: getattr(profile, key) for key in ("warm_start", "supervised", "meta")}
        changes |= {key: dataclasses.replace(own, steps=steps) for key, own in trainings.items() if own}
    if songs is not None and songs != (profile.meta.support_songs, profile.meta.query_songs):
        name, meta = f"{name}-{songs[0]}-and-{songs[1]}-songs", changes.get("meta", profile.meta)
        changes |= {"meta": dataclasses.replace(meta, support_songs=songs[0], query_songs=songs[1])}
    return dataclasses.replace(profile, name=name, **changes)
