"""Meta-training, adaptation and prediction: time, memory, how much of the machine's arithmetic is used, and what shortcuts gain."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import Progress, machine, peak_memory, seconds
from dsaml.baselines import BASELINES, BaselineConfig, make_baseline
from dsaml.config import CLIP_STEPS, DEMO, PAPER, MetaConfig, ModelConfig, released
from dsaml.experiment.recipes import baseline_name
from dsaml.learn import maml
from dsaml.learn.maml import Batch, meta_loss, predict
from dsaml.learn.training import engine
from dsaml.model.dsaml import DSAML
from dsaml.runtime.devices import one_thread
from dsaml.runtime.fast_linear import linear

ADAPT = ("all", "no-adapter", "head")


def make_model(config: ModelConfig) -> DSAML:
    """Random weights, always the same."""
    torch.manual_seed(0)
    return DSAML(config).eval()


def make_batch(config: ModelConfig, tasks: int, songs: int, seed: int = 0, steps: int = CLIP_STEPS) -> Batch:
    """Random songs; time and memory do not depend on what is in them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(tasks, songs, steps, *config.slice_shape, generator=generator)
    embedding = torch.randn(tasks, songs, 1, config.dim, generator=generator)
    return Batch(x, embedding, torch.randn(tasks, songs, steps, 2, generator=generator).tanh())


def meta_step(model: DSAML, support: Batch, query: Batch, config: MetaConfig) -> None:
    """Gradients of one meta-step over all tasks, ``config.tasks_at_once`` at a time."""
    model.zero_grad(set_to_none=True)
    for first in range(0, len(support), config.tasks_at_once):
        part = slice(first, first + config.tasks_at_once)
        loss = meta_loss(model, support[part], query[part], config, engine(config.engine)).sum()
        (loss / len(support)).backward()


SHORTCUTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "slices pooled to 13 x 64": ({"slice_shape": DEMO.model.slice_shape}, {}),
    "feed-forward of 128 instead of 2048": ({"feed_forward": DEMO.model.feed_forward}, {}),
    "fixed sine positions": ({"positions": DEMO.model.positions}, {}),
    "4 query songs instead of 15": ({}, {"query_songs": DEMO.meta.query_songs}),
    "12 tasks at once": ({}, {"tasks_at_once": DEMO.meta.tasks_at_once}),
    "the adapter frozen, its features computed once": ({}, {"adapt": "no-adapter", "train_adapter": False}),
    "only the head adapted": ({}, {"adapt": "head"}),
}
"""What the demo does differently from the released recipe: changes of the model's and of the meta-training's settings."""


def shortcut_seconds(model_config: ModelConfig, meta: MetaConfig, rounds: int) -> float:
    """Seconds of one task's meta-step; tasks that run together share their time."""
    model, tasks = make_model(model_config), meta.tasks_at_once
    support = make_batch(model_config, tasks, meta.support_songs, 1)
    query = make_batch(model_config, tasks, meta.query_songs, 2)
    if not meta.train_adapter:
        model.adapter.requires_grad_(False)
        support, query = (maml.precompute(model, batch, "no-adapter") for batch in (support, query))
    return seconds(lambda: meta_step(model, support, query, meta), rounds) / tasks


def shortcuts(rounds: int, progress: Progress) -> dict[str, Any]:
    """The released recipe at D = 64, what each of the demo's shortcuts alone makes of it, and all but the last together."""
    model, meta = released(ModelConfig(dim=64, heads=4)), dataclasses.replace(PAPER.meta, inner_steps=DEMO.meta.inner_steps)
    progress("D = 64, the released recipe, and every shortcut of the demo alone")
    rows = {"none": shortcut_seconds(model, meta, rounds)}
    for name, (of_model, of_meta) in SHORTCUTS.items():
        changed = dataclasses.replace(model, **of_model), dataclasses.replace(meta, **of_meta)
        rows[name] = shortcut_seconds(*changed, rounds)
    rows["the demo: all but the last together"] = shortcut_seconds(DEMO.model, DEMO.meta, rounds)
    return {name: {"seconds": taken, "gain": rows["none"] / taken} for name, taken in rows.items()}


def matmul_rate() -> float:
    """The machine's rate of float32 matrix products in GFLOP/s: the limit that everything is held against."""
    size = 2048
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / seconds(lambda: linear(a, b)) / 1e9


def _linear_flop(x: torch.Size, weight: torch.Size, *others: Any, **settings: Any) -> int:
    return 2 * x.numel() * weight[0]


def gflop(work: Callable[[], object]) -> float:
    """GFLOP of its matrix products and convolutions. Torch counts those of its own thread, so all of it runs there."""
    ours = {torch.ops.mkldnn._linear_pointwise: _linear_flop}
    with one_thread(), FlopCounterMode(display=False, custom_mapping=ours) as counter:
        work()
    return counter.get_total_flops() / 1e9


def meta_step_flops(model_config: ModelConfig, meta: MetaConfig) -> float:
    """GFLOP of one task's meta-step."""
    model = make_model(model_config)
    support, query = make_batch(model_config, 1, meta.support_songs), make_batch(model_config, 1, meta.query_songs)
    config = dataclasses.replace(meta, tasks_at_once=1)
    return gflop(lambda: meta_step(model, support, query, config))


def one_listener(model_config: ModelConfig, meta: MetaConfig, rounds: int, progress: Progress) -> dict[str, Any]:
    """Seconds to adapt to one listener's song, seconds to predict a song for them, bytes of a personal model."""
    model, rows = make_model(model_config), {}
    support = make_batch(model_config, 1, 1)
    for adapt in ADAPT:
        progress(f"D = {model_config.dim}, one listener, adapt {adapt}")
        config = dataclasses.replace(meta, adapt=adapt)
        weights = maml.adapt(model, support, config)
        rows[adapt] = {
            "adapt_seconds": seconds(partial(maml.adapt, model, support, config), rounds),
            "predict_seconds": seconds(partial(predict, model, weights, support, config), rounds),
            "megabytes": sum(w.numel() * w.element_size() for w in weights.values()) / 1e6,
        }
    return rows


def predictions_per_second(model_config: ModelConfig, songs: int, rounds: int) -> float:
    """Songs of 30 s that the base model predicts in a second, ``songs`` in one batch."""
    model, batch = make_model(model_config), make_batch(model_config, 1, songs)
    with torch.no_grad():
        return songs / seconds(lambda: model(batch.x[0], batch.global_embedding[0]), rounds)


def task_memory(model_config: ModelConfig, meta: MetaConfig, query_mode: str) -> None:
    """One task's meta-step with everything adapted, for :func:`benchmarks.common.peak_memory`."""
    torch.set_num_threads(2)
    support, query = make_batch(model_config, 1, meta.support_songs), make_batch(model_config, 1, meta.query_songs)
    meta_step(
        make_model(model_config), support, query, dataclasses.replace(meta, tasks_at_once=1, query_mode=query_mode)
    )


TRIM = {"MALLOC_TRIM_THRESHOLD_": "1000000"}
"""glibc gives freed memory back at once, instead of keeping it in case it is wanted again."""


def five_models(rounds: int) -> dict[str, dict[str, float]]:
    """Parameters, and seconds to predict one song of 30 s on one core, of DSAML and the four baselines at their own sizes."""
    models: dict[str, Any] = {"DSAML, D = 1024": (DSAML(PAPER.model), PAPER.model.slice_shape)}
    models |= {"DSAML, D = 64 (demo)": (DSAML(DEMO.model), DEMO.model.slice_shape)}
    for name in BASELINES:
        config = BaselineConfig(name)
        models[baseline_name(name)] = (make_baseline(config), config.heard)
    rows = {}
    for name, (model, shape) in models.items():
        x, embedding = torch.randn(1, CLIP_STEPS, *shape), torch.randn(1, 1, getattr(model.config, "dim", 1))
        with one_thread(), torch.no_grad():
            taken = seconds(partial(model.eval(), x, embedding), rounds)
        rows[name] = {"parameters": sum(p.numel() for p in model.parameters()), "forward_seconds": taken}
    return rows


def measure(rounds: int = 5, progress: Progress = lambda what: None) -> dict[str, Any]:
    """Everything that ``data/bench/engine.json`` holds."""
    out: dict[str, Any] = {"machine": machine(), "matmul_gflops": matmul_rate(), "models": five_models(rounds)}
    for profile in (DEMO, PAPER):
        turns = rounds if profile is DEMO else 3
        paper_adapt = dataclasses.replace(profile.meta, adapt="all")
        everything = dataclasses.replace(paper_adapt, train_adapter=True)
        progress(f"D = {profile.model.dim}: a task's meta-step")
        taken, flops = shortcut_seconds(profile.model, everything, turns), meta_step_flops(profile.model, everything)
        progress(f"D = {profile.model.dim}: memory")
        out[profile.name] = {
            "dim": profile.model.dim,
            "query_songs": profile.meta.query_songs,
            "inner_steps": profile.meta.inner_steps,
            "seconds_per_task": taken,
            "gflop_per_task": flops,
            "fraction_of_matmul_rate": flops / taken / out["matmul_gflops"],
            "one_listener": one_listener(profile.model, profile.meta, turns, progress),
            "songs_per_second": predictions_per_second(profile.model, 16 if profile is DEMO else 4, turns),
            "peak_gigabytes_of_one_task": peak_memory(task_memory, profile.model, paper_adapt, "eval")[1],
            "peak_gigabytes_with_dropout": peak_memory(task_memory, profile.model, paper_adapt, "train")[1],
            "peak_gigabytes_trimmed": peak_memory(task_memory, profile.model, paper_adapt, "train", environment=TRIM)[1],
        }
    return out
