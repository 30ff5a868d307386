"""Meta-training, adaptation and prediction: time, memory, and how much of the machine's arithmetic is used.

The baseline is the straightforward implementation of the same mathematics: learn2learn, one task after the other, the two
attention scales as two passes, the default memory layout of the convolutions.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import Progress, machine, peak_memory, seconds, take_turns
from dsaml.config import CLIP_STEPS, DEMO, PAPER, MetaConfig, ModelConfig
from dsaml.experiment.recipes import baseline_name
from dsaml.learn import maml
from dsaml.learn.maml import Batch, meta_loss, predict
from dsaml.learn.training import engine
from dsaml.model.baselines import BASELINES, BaselineConfig, make_baseline
from dsaml.model.dsaml import DSAML, DualScaleAttention, band_mask, sinusoidal_positions

ADAPT = ("all", "no-adapter", "head")


class TwoPassAttention(DualScaleAttention):
    """The two scales one after the other."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        config, steps = self.config, z.shape[-2]
        if config.positions == "sinusoidal":
            z = z * math.sqrt(config.dim) + sinusoidal_positions(steps, config.dim, z.device)
        outputs, maps = [], []
        for context in (config.context_local, config.context_global):
            outside = ~band_mask(steps, context, z.device)[None, None]
            x, bias, attention = z.unsqueeze(-3), z.new_zeros(outside.shape).masked_fill(outside, -torch.inf), []
            for layer in self.layers:
                x, weights = layer(x, bias)
                attention.append(weights.squeeze(-4))
            outputs.append(x.squeeze(-3))
            maps.append(torch.stack(attention, -4))
        return (outputs[0] + outputs[1]).sigmoid(), *maps


def straightforward(model: DSAML) -> DSAML:
    """A copy of the model that computes the same in the straightforward way."""
    copy = DSAML(model.config)
    copy.attention = TwoPassAttention(model.config)
    copy.adapter.fast = False
    copy.load_state_dict(model.state_dict())
    return copy.train(model.training)


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


def gradient_difference(model: DSAML, plain: DSAML, support: Batch, query: Batch, config: MetaConfig) -> float:
    """Largest difference of the two sides' gradients, relative to the largest gradient: the mathematics is the same."""
    meta_step(model, support, query, config)
    meta_step(plain, support, query, dataclasses.replace(config, engine="learn2learn", tasks_at_once=1))
    pairs = [
        (p.grad, q.grad)
        for p, q in zip(model.parameters(), plain.parameters(), strict=True)
        if p.grad is not None and q.grad is not None
    ]
    largest = max(q.abs().max().item() for _, q in pairs)
    return max((p - q).abs().max().item() for p, q in pairs) / largest


def against_baseline(
    model_config: ModelConfig, meta: MetaConfig, tasks: int, rounds: int, progress: Progress
) -> dict[str, Any]:
    """Tasks per second of both sides for every choice of adapted parameters, dropout off."""
    model = make_model(model_config)
    plain, rows = straightforward(model), {}
    support = make_batch(model_config, tasks, meta.support_songs, 1)
    query = make_batch(model_config, tasks, meta.query_songs, 2)
    for adapt in ADAPT:
        config = dataclasses.replace(meta, adapt=adapt, query_mode="eval", tasks_at_once=min(meta.tasks_at_once, tasks))
        theirs = dataclasses.replace(config, engine="learn2learn", tasks_at_once=1)
        progress(f"D = {model_config.dim}, adapt {adapt}: both engines")
        difference = gradient_difference(model, plain, support, query, config)
        times = take_turns(
            {
                "here": lambda config=config: meta_step(model, support, query, config),
                "baseline": lambda theirs=theirs: meta_step(plain, support, query, theirs),
            },
            rounds,
        )
        rows[adapt] = {
            "tasks_per_second": tasks / times["here"],
            "baseline_tasks_per_second": tasks / times["baseline"],
            "ratio": times["baseline"] / times["here"],
            "gradient_difference": difference,
        }
    return rows


def matmul_rate(size: int = 2048) -> float:
    """The machine's rate of float32 matrix products in GFLOP/s: the limit that everything is held against."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / seconds(lambda: a @ b) / 1e9


def meta_step_flops(model_config: ModelConfig, meta: MetaConfig) -> float:
    """GFLOP of one task's meta-step, counted by torch (matrix products and convolutions)."""
    model = make_model(model_config)
    support, query = make_batch(model_config, 1, meta.support_songs), make_batch(model_config, 1, meta.query_songs)
    config = dataclasses.replace(meta, query_mode="eval", tasks_at_once=1)
    with FlopCounterMode(display=False) as counter:
        meta_step(model, support, query, config)
    return counter.get_total_flops() / 1e9


def one_listener(model_config: ModelConfig, meta: MetaConfig, rounds: int, progress: Progress) -> dict[str, Any]:
    """Seconds to adapt to one listener's song, seconds to predict a song for them, bytes of a personal model."""
    model, rows = make_model(model_config), {}
    support = make_batch(model_config, 1, 1)
    for adapt in ADAPT:
        progress(f"D = {model_config.dim}, one listener, adapt {adapt}")
        config = dataclasses.replace(meta, adapt=adapt)
        weights = maml.adapt(model, support, config)
        rows[adapt] = {
            "adapt_seconds": seconds(lambda config=config: maml.adapt(model, support, config), rounds),
            "predict_seconds": seconds(
                lambda config=config, weights=weights: predict(model, weights, support, config), rounds
            ),
            "megabytes": sum(w.numel() * w.element_size() for w in weights.values()) / 1e6,
        }
    return rows


def predictions_per_second(model_config: ModelConfig, songs: int, rounds: int) -> float:
    """Songs of 30 s that the base model predicts in a second, ``songs`` in one batch."""
    model, batch = make_model(model_config), make_batch(model_config, 1, songs)

    def work() -> None:
        with torch.no_grad():
            model(batch.x[0], batch.global_embedding[0])

    return songs / seconds(work, rounds)


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
    threads, rows = torch.get_num_threads(), {}
    models: dict[str, Any] = {"DSAML, D = 1024": (DSAML(PAPER.model), PAPER.model.slice_shape)}
    models |= {"DSAML, D = 64 (demo)": (DSAML(DEMO.model), DEMO.model.slice_shape)}
    for name in BASELINES:
        config = BaselineConfig(name)
        models[baseline_name(name)] = (make_baseline(config), (config.samples,) if config.raw else config.slice_shape)
    torch.set_num_threads(1)
    try:
        for name, (model, shape) in models.items():
            model.eval()
            x, embedding = torch.randn(1, CLIP_STEPS, *shape), torch.randn(1, 1, getattr(model.config, "dim", 1))

            def work(model: torch.nn.Module = model, x: Tensor = x, embedding: Tensor = embedding) -> None:
                with torch.no_grad():
                    model(x, embedding)

            rows[name] = {
                "parameters": sum(p.numel() for p in model.parameters()),
                "forward_seconds": seconds(work, rounds),
            }
    finally:
        torch.set_num_threads(threads)
    return rows


def measure(rounds: int = 5, progress: Progress = lambda what: None) -> dict[str, Any]:
    """Everything that ``data/bench/engine.json`` holds."""
    out: dict[str, Any] = {"machine": machine(), "matmul_gflops": matmul_rate(), "models": five_models(rounds)}
    for profile, tasks in ((DEMO, DEMO.meta.tasks_per_step), (PAPER, 1)):
        turns = rounds if profile is DEMO else 3
        paper_adapt = dataclasses.replace(profile.meta, adapt="all")
        rows = against_baseline(profile.model, profile.meta, tasks, turns, progress)
        flops = meta_step_flops(profile.model, paper_adapt)
        progress(f"D = {profile.model.dim}: memory")
        out[profile.name] = {
            "dim": profile.model.dim,
            "tasks": tasks,
            "query_songs": profile.meta.query_songs,
            "inner_steps": profile.meta.inner_steps,
            "meta_training": rows,
            "gflop_per_task": flops,
            "fraction_of_matmul_rate": flops * rows["all"]["tasks_per_second"] / out["matmul_gflops"],
            "one_listener": one_listener(profile.model, profile.meta, turns, progress),
            "songs_per_second": predictions_per_second(profile.model, 16 if profile is DEMO else 4, turns),
            "peak_gigabytes_of_one_task": peak_memory(task_memory, profile.model, paper_adapt, "eval")[1],
            "peak_gigabytes_with_dropout": peak_memory(task_memory, profile.model, paper_adapt, "train")[1],
            "peak_gigabytes_trimmed": peak_memory(task_memory, profile.model, paper_adapt, "train", environment=TRIM)[
                1
            ],
        }
    return out
