"""The loop under every kind of training: optimizer, schedule, validation, checkpoints, logs, interruptions.

What is random in a step follows from (seed, step, process) alone, and so do its songs: a training that was stopped, killed or
moved goes on to exactly the numbers of an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from dsaml.config import LoopConfig
from dsaml.errors import DsamlError
from dsaml.io import read_checkpoint, write_checkpoint
from dsaml.runtime.devices import arithmetic
from dsaml.runtime.distributed import from_first, ranks, sum_gradients, sum_over_ranks, wait_for_all
from dsaml.runtime.workers import interruptible


@dataclass
class History:
    """What happened in a training. A score is the mean CCC over both dimensions; that of step 0 is the model's as it came."""

    loss: list[float] = field(default_factory=list)  # of each step
    validation: list[tuple[int, float]] = field(default_factory=list)  # (step, score)
    best_step: int = 0  # where validation was best
    adapted: list[tuple[int, float]] = field(default_factory=list)  # after adaptation, where a model is also scored so
    best_adapted: int = 0  # where that was best

    def add(self, name: str, step: int, score: float) -> bool:
        """Note a score of ``validation`` or ``adapted``; whether it is the best one so far."""
        curve: list[tuple[int, float]] = getattr(self, name)
        best = not curve or score > max(value for _, value in curve)
        if best:
            setattr(self, "best_step" if name == "validation" else "best_adapted", step)
        curve.append((step, score))
        return best


@dataclass(frozen=True)
class TrainingOptions:
    """From which seed and where a training computes, where it keeps its checkpoint, whom it tells about progress."""

    checkpoint: Path | None = None  # written every ``save_every`` steps; None keeps everything in memory
    resume: bool = False  # continue from the checkpoint if there is one
    save_every: int = 50  # steps
    progress: Callable[[int, int, History], None] = lambda step, total, history: None  # called after every step
    logs: Path | None = None  # folder of TensorBoard event files
    device: str = "cpu"  # "cpu", "cuda", "cuda:1", "mps"
    precision: Literal["float32", "tf32", "bf16"] = "float32"  # of matrix products; bf16 is autocast
    seed: int = 0  # of songs, tasks and dropout
    validate_every: int = 50  # steps
    until: int | None = None  # stop after this step, to go on later: to the same numbers if it is one that is validated anyway


def fit(
    model: nn.Module,
    step_losses: Callable[[int], Iterable[Tensor]],
    scores: Mapping[str, Callable[[], float]],
    config: LoopConfig,
    options: TrainingOptions,
    *,
    best_by: str = "validation",
) -> History:
    """Train ``model`` in place; it ends in eval mode with the best validated weights, those it came with among them.

    Parameters
    ----------
    step_losses : callable
        From the step's number to scalars whose sum is its loss (this process's share of it, where there are several). Each is
        differentiated before the next one is asked for, so that only one is in memory.
    scores : mapping of str to callable
        "validation", and "adapted" where a model is also scored after adaptation to a listener. Higher is better; the best
        weights by each are kept, and the model ends with those by ``best_by``.

    Raises
    ------
    DsamlError
        If the loss or a gradient is not finite, the checkpoint cannot be written, or training is interrupted (Ctrl-C, SIGTERM).
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    history, step, total, file = History(), 0, config.steps, options.checkpoint
    last = total if options.until is None else min(options.until, total)
    best: dict[str, dict[str, Tensor]] = {}  # weights, by the score that they are best at
    if options.resume and file is not None and file.is_file():
        state = read_checkpoint(file)
        if missing := set(scores) - set(state["best"]):
            raise DsamlError(f"{file}: was written without {', '.join(missing)}; delete it and train again")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        history, best, step = History(**state["history"]), state["best"], state["step"]
    wait_for_all()  # nobody writes a checkpoint that another one is about to read

    def validate() -> None:
        for name, score in scores.items():
            if history.add(name, step, from_first(score(), options.device)):
                best[name] = {key: tensor.clone() for key, tensor in model.state_dict().items()}

    def ends() -> bool:
        waited = step - max(history.best_step, history.best_adapted)
        return step >= last or 0 < config.patience * options.validate_every <= waited

    computing = arithmetic(options.device, options.precision)
    with computing, interruptible() as interrupted, _event_log(options.logs, step) as event:
        if not history.validation:
            validate()
        while not ends():
            torch.manual_seed(int(np.random.SeedSequence([options.seed, step, ranks()[0]]).generate_state(1, np.uint64)[0]) >> 1)
            if config.schedule == "cosine":
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * 0.5 * (1 + math.cos(math.pi * step / total))
            model.train()
            history.loss.append(_descend(step, step_losses(step), optimizer, parameters, config.clip_norm))
            step += 1
            event("loss", history.loss[-1], step)
            if step % options.validate_every == 0 or step == last:
                validate()
                event("validation CCC", history.validation[-1][1], step)
            stop = interrupted()
            if file is not None and ranks()[0] == 0 and (step % options.save_every == 0 or stop or ends()):
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
                write_checkpoint(file, state | {"history": vars(history), "best": best})
            options.progress(step, total, history)
            if stop and not ends():
                kept = f"saved in {file}; the same command goes on" if file else "nothing is saved"
                raise DsamlError(f"stopped after step {step} of {total}: {kept}")
    model.load_state_dict(best[best_by])
    model.eval()
    return history


def _descend(
    step: int, losses: Iterable[Tensor], optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], clip_norm: float
) -> float:
    """One optimizer step, and its loss; refuses to take it on a loss or gradient that is not finite."""
    optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=parameters[0].device)
    for loss in losses:
        loss.backward()
        total += loss.detach()
    sum_gradients(parameters)
    value = sum_over_ranks(total).item()
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip_norm or math.inf)
    if not (math.isfinite(value) and torch.isfinite(norm)):
        what = f"the loss is {value}" if not math.isfinite(value) else f"the gradient's norm is {norm.item()}"
        raise DsamlError(f"step {step + 1}: {what}; lower the learning rate (the last good checkpoint is kept)")
    optimizer.step()
    return value


@contextmanager
def _event_log(folder: Path | None, start: int) -> Iterator[Callable[[str, float, int], None]]:
    """A function that writes (name, value, step) for TensorBoard, from step ``start`` on; nothing without a folder."""
    if folder is None or ranks()[0]:
        yield lambda name, value, step: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise DsamlError(f"{folder}: logs need the package tensorboard; install it or leave --logs out") from error
    with SummaryWriter(str(folder), purge_step=start or None) as writer:
        yield writer.add_scalar
