"""What a GPU makes of the paper's size: tasks at once, precision, compilation, and all of the paper's steps: ``bench --gpu``."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import Progress, machine, seconds
from benchmarks.engine import make_batch, make_model, meta_step
from dsaml.config import PAPER, MetaConfig, ModelConfig
from dsaml.experiment.prepare import Source, prepare
from dsaml.learn.batches import SongStore
from dsaml.learn.loop import TrainingOptions
from dsaml.learn.maml import Batch
from dsaml.learn.training import train_maml
from dsaml.model.dsaml import DSAML
from dsaml.runtime.devices import arithmetic, choose_device

AT_ONCE = (1, 2, 4, 8, 16, 32)  # tasks
PRECISIONS = ("float32", "tf32", "bf16")
COMPILED = ("default", "reduce-overhead")  # torch.compile's modes; the second records CUDA graphs
SHORT = 200  # meta-steps with which precisions are compared in quality, where nothing else is asked for
PROFILE = dataclasses.replace(PAPER, name="paper, embedded corpus", encoder="mel")


@dataclasses.dataclass
class Step:
    """One meta-step that can be timed."""

    model: DSAML
    support: Batch
    query: Batch
    config: MetaConfig
    device: str

    @classmethod
    def of(cls, model: ModelConfig, meta: MetaConfig, tasks: int, device: str) -> Step:
        """With random songs."""
        support = make_batch(model, tasks, meta.support_songs, 1).map(lambda part: part.to(device))
        query = make_batch(model, tasks, meta.query_songs, 2).map(lambda part: part.to(device))
        config = dataclasses.replace(meta, tasks_at_once=tasks)
        return cls(make_model(model).to(device), support, query, config, device)

    def launch(self) -> None:
        """Hand the step to the device, without waiting for it."""
        meta_step(self.model, self.support, self.query, self.config)

    def __call__(self) -> None:
        self.launch()
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)

    def gradient(self) -> torch.Tensor:
        """Of all parameters after the step, in one row."""
        return torch.cat([p.grad.flatten().double() for p in self.model.parameters() if p.grad is not None])


def tasks_at_once(model: ModelConfig, meta: MetaConfig, device: str, rounds: int) -> dict[str, Any]:
    """Seconds of one task and peak memory, for more and more tasks at once, until memory ends."""
    rows: dict[str, Any] = {}
    cuda = device.startswith("cuda")
    for tasks in AT_ONCE:
        if cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        try:
            taken = seconds(Step.of(model, meta, tasks, device), rounds)
        except torch.OutOfMemoryError:
            break
        rows[str(tasks)] = {
            "seconds_per_task": taken / tasks,
            "peak_gb": torch.cuda.max_memory_allocated(device) / 1e9 if cuda else None,
        }
    return rows


def precisions(model: ModelConfig, meta: MetaConfig, tasks: int, device: str, rounds: int) -> dict[str, Any]:
    """Seconds of one task; how far the gradient of a step without dropout is from float32's, relative to its norm."""
    rows, exact = {}, None
    for precision in PRECISIONS:
        with arithmetic(device, precision):
            taken = seconds(Step.of(model, meta, tasks, device), rounds) / tasks
            plain = Step.of(dataclasses.replace(model, dropout=0.0), meta, tasks, device)
            plain()
        exact = plain.gradient() if exact is None else exact
        difference = float((plain.gradient() - exact).norm() / exact.norm())
        rows[precision] = {"seconds_per_task": taken, "gradient_difference": difference}
    return rows


def compiled(model: ModelConfig, meta: MetaConfig, tasks: int, device: str, rounds: int) -> dict[str, Any]:
    """Seconds of one task with torch.compile, the first step's compilation apart; or why it failed."""
    rows: dict[str, Any] = {}
    for name in COMPILED:
        step = Step.of(model, meta, tasks, device)
        start = time.perf_counter()
        try:
            step.model.compile(mode=name)
            step()
            first = time.perf_counter() - start
            rows[name] = {"seconds_per_task": seconds(step, rounds) / tasks, "first_step_seconds": first}
        except Exception as error:  # whatever the compiler raises
            rows[name] = {"failed": str(error).strip().partition("\n")[0][:200]}
        torch.compiler.reset()
    return rows


def recorded(model: ModelConfig, meta: MetaConfig, tasks: int, device: str, rounds: int) -> dict[str, Any]:
    """Seconds of one task where the whole meta-step is one CUDA graph: recorded once, then played; or why it failed."""
    step = Step.of(model, meta, tasks, device)
    try:
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            step.launch()  # kernels choose their algorithms before they are recorded
        torch.cuda.current_stream(device).wait_stream(side)
        step.model.zero_grad(set_to_none=True)
        graph, start = torch.cuda.CUDAGraph(), time.perf_counter()
        with torch.cuda.graph(graph):
            step.launch()
        first = time.perf_counter() - start

        def play() -> None:
            graph.replay()
            torch.cuda.synchronize(device)

        return {"seconds_per_task": seconds(play, rounds) / tasks, "recording_seconds": first}
    except RuntimeError as error:
        return {"failed": str(error).strip().partition("\n")[0][:200]}


def trainings(store: SongStore, model: ModelConfig, plan: Mapping[str, tuple[MetaConfig, str]], device: str) -> Any:
    """Seconds and best validation CCC of trainings by name: their settings, their precision."""
    rows = {}
    for name, (meta, precision) in plan.items():
        fresh, start = make_model(model), time.perf_counter()
        options = TrainingOptions(device=device, precision=precision, validate_every=max(1, meta.steps // 4))
        history = train_maml(fresh, copy.copy(store), meta, options)
        best = max(score for _, score in history.validation)
        rows[name] = {"steps": meta.steps, "seconds": time.perf_counter() - start, "validation_ccc": best}
    return rows


def measure(cache: Path, steps: int | None = None, progress: Progress = lambda what: None) -> dict[str, Any]:
    """Everything that ``data/bench/gpu.json`` holds, on the embedded corpus and its features in ``cache``.

    With ``steps`` a training in each precision has so many meta-steps; by default ``SHORT`` in each, then the paper's.

    Raises
    ------
    DsamlError
        If there is no GPU.
    """
    device, model, meta = choose_device("cuda"), PROFILE.model, PROFILE.meta
    progress("tasks at once")
    sizes = tasks_at_once(model, meta, device, 3)
    tasks = min(meta.tasks_per_step, max(map(int, sizes)))

    def recorded_with(precision: str) -> dict[str, Any]:
        with arithmetic(device, precision):
            return recorded(model, meta, tasks, device, 3)

    progress(f"{tasks} tasks at once: precisions, CUDA graphs")
    out = {
        "machine": machine(),
        "tasks": tasks,
        "steps": meta.steps,
        "tasks_per_step": meta.tasks_per_step,
        "tasks_at_once": sizes,
        "precisions": precisions(model, meta, tasks, device, 3),
        "recorded": {precision: recorded_with(precision) for precision in ("float32", "tf32")},
    }
    progress(f"{steps or SHORT} meta-steps in every precision" + ("" if steps else f", then the paper's {meta.steps}"))
    short = dataclasses.replace(meta, steps=steps or SHORT, tasks_at_once=tasks)
    plan = {precision: (short, precision) for precision in PRECISIONS}
    if not steps:
        plan["tf32, all of the paper's steps"] = (dataclasses.replace(meta, tasks_at_once=tasks), "tf32")
    out["trainings"] = trainings(prepare(PROFILE, Source(cache=cache)).store, model, plan, device)
    progress("torch.compile")
    return out | {"compiled": compiled(model, meta, tasks, device, 3)}
