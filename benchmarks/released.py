"""The released recipe at full size, against the authors' layers, on exactly the same work, and what the demo's shortcuts gain.

One task: 1 support and 15 query songs of 60 slices of 51 x 128, everything adapted, first order, the query pass in train mode; no
pooling, nothing frozen. D = 64 with 4 heads and 5 inner steps, D = 1024 with 16 and 16.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import engine, released_layers
from benchmarks.common import Progress, machine, peak_memory, seconds, take_turns
from dsaml.audio.features import Features
from dsaml.audio.slices import log_mel_slices
from dsaml.config import LABEL_START, PAPER, STEP_SECONDS, AudioConfig, MetaConfig, ModelConfig, released
from dsaml.learn import maml
from dsaml.learn.maml import Batch
from dsaml.listen.personal import song_curve
from dsaml.model.dsaml import DSAML
from dsaml.runtime.devices import one_thread

CLIP_SECONDS, SONG_SECONDS, STACKED = 45, 240, 4
MODELS = {"64": released(ModelConfig(dim=64, heads=4)), "1024": released()}
META = {"64": dataclasses.replace(PAPER.meta, inner_steps=5), "1024": PAPER.meta}


def both_models(config: ModelConfig) -> tuple[DSAML, released_layers.ReleasedDSAML]:
    """Ours and theirs, with the same random weights."""
    ours, theirs = engine.make_model(config), released_layers.ReleasedDSAML(config)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs.eval()


def both_batches(config: ModelConfig, meta: MetaConfig, tasks: int) -> tuple[Batch, Batch]:
    """Support and query set."""
    return engine.make_batch(config, tasks, meta.support_songs, 1), engine.make_batch(
        config, tasks, meta.query_songs, 2
    )


def gradient_difference(config: ModelConfig, meta: MetaConfig) -> float:
    """Of both sides in float64 and without dropout, relative to the largest gradient: the work is the same."""
    config = dataclasses.replace(config, dropout=0.0)
    sides = [model.double() for model in both_models(config)]
    batches = [batch.map(torch.Tensor.double) for batch in both_batches(config, meta, 1)]
    for step, model in zip((engine.meta_step, released_layers.meta_step), sides, strict=True):
        step(model, *batches, meta)
    pairs = list(zip(*(list(model.parameters()) for model in sides), strict=True))
    largest = max(float(theirs.grad.abs().max()) for _, theirs in pairs)
    return max(float((ours.grad - theirs.grad).abs().max()) for ours, theirs in pairs) / largest


def _one_side(side: str, config: ModelConfig, meta: MetaConfig) -> None:
    """Two meta-steps of one task in a process of their own, for the peak: the second meets what the first has left."""
    ours, theirs = both_models(config)
    step, model = (engine.meta_step, ours) if side == "ours" else (released_layers.meta_step, theirs)
    del ours, theirs
    batches = both_batches(config, meta, 1)
    for _ in range(2):
        step(model, *batches, meta)


def _compared(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int, share: int = 1
) -> dict[str, float]:
    times = take_turns({"released": theirs, "ours": ours}, rounds)
    return {
        "seconds": times["ours"] / share,
        "released_seconds": times["released"] / share,
        "ratio": times["released"] / times["ours"],
    }


def one_size(dim: str, rounds: int, progress: Progress) -> dict[str, Any]:
    """Everything that is measured at one D."""
    config, meta = MODELS[dim], META[dim]
    ours, theirs = both_models(config)
    support, query = both_batches(config, meta, 1)
    progress(f"D = {dim}: whole task, both sides in turns")
    row: dict[str, Any] = _compared(
        lambda: engine.meta_step(ours, support, query, meta),
        lambda: released_layers.meta_step(theirs, support, query, meta),
        rounds,
    )
    row["gflop"] = engine.gflop(lambda: engine.meta_step(ours, support, query, meta))
    row["gflops"] = row["gflop"] / row["seconds"]
    progress(f"D = {dim}: adaptation alone")
    head = dataclasses.replace(meta, adapt="head")
    row["adaptation"] = _compared(
        lambda: maml.adapt(ours, support, meta), lambda: released_layers.adapted(theirs, support[0], meta), rounds
    )
    row["head_seconds"] = seconds(lambda: maml.adapt(ours, support, head), rounds)
    if dim == "64":
        progress(f"D = {dim}: {STACKED} tasks stacked")
        several, stacked = both_batches(config, meta, STACKED), dataclasses.replace(meta, tasks_at_once=STACKED)
        row["stacked"] = _compared(
            lambda: engine.meta_step(ours, *several, stacked),
            lambda: released_layers.meta_step(theirs, *several, meta),
            max(1, rounds // 2),
            STACKED,
        )
    progress(f"D = {dim}: a song of {SONG_SECONDS} s")
    steps = int((SONG_SECONDS - LABEL_START) / STEP_SECONDS)
    song = Features(torch.randn(steps, *config.slice_shape), torch.randn(steps, config.dim))
    row["song_seconds"] = seconds(lambda: song_curve(ours, song), min(2, rounds))
    progress(f"D = {dim}: peak memory of each side, in a process of its own")
    row["peak_gb"] = peak_memory(_one_side, "ours", config, meta)[1]
    row["released_peak_gb"] = peak_memory(_one_side, "released", config, meta)[1]
    return row


def log_mel_seconds(rounds: int) -> float:
    """Log-mels of one clip of 45 s on one core."""
    waveform = torch.randn(CLIP_SECONDS * AudioConfig().sample_rate)
    with one_thread():
        return seconds(lambda: log_mel_slices(waveform, steps=60), rounds)


def measure(rounds: int = 5, progress: Progress = lambda what: None) -> dict[str, Any]:
    """Everything that ``data/bench/released.json`` holds."""
    small, few = dataclasses.replace(MODELS["64"], feed_forward=64), dataclasses.replace(META["64"], query_songs=2)
    return {
        "machine": machine(),
        "matmul_gflops": engine.matmul_rate(),
        "gradient_difference": gradient_difference(small, few),
        "released": {dim: one_size(dim, rounds if dim == "64" else max(1, rounds // 2), progress) for dim in MODELS},
        "log_mel_seconds": log_mel_seconds(rounds),
        "shortcuts": engine.shortcuts(rounds, progress),
    }
