"""The loop under every kind of training: optimizer, schedule, validation, checkpoints, logs, interruptions.

What is random in a step follows from (seed, step, process) alone, and so do its songs: a run that was stopped, killed or
moved goes on to exactly the numbers of an uninterrupted one.
"""

from __future__ import annotations

import io
import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dsaml.config import MetaConfig, SupervisedConfig
from dsaml.distributed import copy_from_first, from_first, ranks, sum_gradients, sum_over_ranks, wait_for_all
from dsaml.errors import DsamlError
from dsaml.integrity import seal, unseal
from dsaml.model import DSAML
from dsaml.results import write_bytes_atomically


@dataclass
class History:
    """What a run did.

    Attributes
    ----------
    loss : list of float
        Training loss of each step.
    validation : list of (step, mean CCC over both dimensions)
    best_step : int
        Where validation was best; the weights of that step are the result.
    """

    loss: list[float] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    best_step: int = 0


@dataclass
class Run:
    """Where a run computes, where it keeps its checkpoint, and whom it tells about progress."""

    checkpoint: Path | None = None  # written every ``save_every`` steps; None keeps everything in memory
    resume: bool = False  # continue from the checkpoint if there is one
    save_every: int = 50  # steps
    progress: Callable[[int, int, History], None] = lambda step, total, history: None  # called after every step
    logs: Path | None = None  # folder of TensorBoard event files
    device: str = "cpu"  # "cpu", "cuda", "cuda:1", "mps"
    precision: Literal["float32", "tf32", "bf16"] = "float32"  # of matrix products; bf16 is autocast


def best_device() -> str:
    """ "cuda" where there is a GPU, else "mps" on Apple silicon, else "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_device(name: str) -> str:
    """The device that a name stands for; "auto" is :func:`best_device`.

    Raises
    ------
    DsamlError
        If this machine does not have it.
    """
    if name == "auto":
        return best_device()
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name not in there:
        raise DsamlError(f"device '{name}' is not known; choose one of: auto, {', '.join(there)}")
    if not there[name]:
        raise DsamlError(f"device '{name}' is not there, or this torch was built without it; use --device cpu")
    return name


@contextmanager
def arithmetic(device: str, precision: str) -> Iterator[None]:
    """Inside the block matrix products have this precision; weights and losses stay float32."""
    if precision not in ("float32", "tf32", "bf16"):
        raise DsamlError(f"precision '{precision}' is not known; choose one of: float32, tf32, bf16")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        with torch.autocast(device.split(":")[0], torch.bfloat16) if precision == "bf16" else nullcontext():
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _save(path: Path, state: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes_atomically(path, seal(buffer.getvalue()))


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint without executing code from it.

    Raises
    ------
    DsamlError
        If the file is missing, damaged, or holds anything but tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise DsamlError(f"{path}: no such checkpoint; train first or correct the path")
    try:
        content = unseal(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DsamlError(f"{path}: cannot be used ({error}); delete this checkpoint to train again") from error
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise DsamlError(
            f"{path}: not a checkpoint that can be read safely ({type(error).__name__}); delete it to train again"
        ) from error
    if not isinstance(state, dict) or "model" not in state:
        raise DsamlError(f"{path}: holds no model; was it written by 'python -m dsaml train'?")
    return state


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C or SIGTERM inside the block only sets a flag, so that a step is never cut in half; a second one cuts."""
    pressed: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def handler(number: int, frame: Any) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(pressed)
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)


@contextmanager
def _event_log(folder: Path | None, start: int) -> Iterator[Callable[[str, float, int], None]]:
    """A function that writes (name, value, step) where TensorBoard reads it; nothing without a folder."""
    if folder is None or ranks()[0]:
        yield lambda name, value, step: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise DsamlError(f"{folder}: logs need the package tensorboard; install it or leave --logs out") from error
    with SummaryWriter(str(folder), purge_step=start or None) as writer:
        yield writer.add_scalar


def fit(
    model: DSAML,
    step_losses: Callable[[int], Iterable[Tensor]],
    validate: Callable[[], float],
    config: SupervisedConfig | MetaConfig,
    *,
    seed: int,
    validate_every: int,
    run: Run,
    shared: bool = True,
) -> History:
    """Train ``model`` in place; it ends in eval mode with the best validated weights.

    Parameters
    ----------
    step_losses : callable
        From the step's number to scalars whose sum is its loss (this process's share of it, where there are several). Each is
        differentiated before the next one is asked for, so that only one is in memory.
    validate : callable
        Gives the validation score; higher is better.
    shared : bool
        Whether several processes share each step's losses; otherwise each computes all of them, and they end with the first
        one's weights.

    Raises
    ------
    DsamlError
        If the loss or a gradient is not finite, the checkpoint cannot be written, or the run is interrupted (Ctrl-C, SIGTERM).
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    history, best, best_score, start = History(), None, -math.inf, 0
    if run.resume and run.checkpoint is not None and run.checkpoint.is_file():
        state = read_checkpoint(run.checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        history, best = History(**state["history"]), state["best"]
        best_score, start = state["best_score"], state["step"]
    wait_for_all()  # nobody writes a checkpoint that another one is about to read

    def save(step: int) -> None:
        if run.checkpoint is not None and ranks()[0] == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            _save(run.checkpoint, state | {"history": vars(history), "best": best, "best_score": best_score})

    def stopped_early(step: int) -> bool:
        patience = config.patience * validate_every
        return bool(patience) and step - history.best_step >= patience

    with arithmetic(run.device, run.precision), _interruptible() as interrupted, _event_log(run.logs, start) as event:
        for step in range(start, config.steps):
            if stopped_early(step):
                break
            _seed_step(seed, step, ranks()[0] if shared else 0)
            if config.schedule == "cosine":
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * 0.5 * (1 + math.cos(math.pi * step / config.steps))
            model.train()
            _descend(step, step_losses, optimizer, parameters, config.clip_norm, history, shared)
            event("loss", history.loss[-1], step + 1)
            if (step + 1) % validate_every == 0 or step + 1 == config.steps:
                score = from_first(validate(), run.device)
                history.validation.append((step + 1, score))
                event("validation CCC", score, step + 1)
                if score > best_score:
                    best_score, history.best_step = score, step + 1
                    best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            last = step + 1 == config.steps or stopped_early(step + 1)
            if (step + 1) % run.save_every == 0 or last or interrupted():
                save(step + 1)
            run.progress(step + 1, config.steps, history)
            if interrupted() and not last:
                kept = f"saved in {run.checkpoint}; the same command goes on" if run.checkpoint else "nothing is saved"
                raise DsamlError(f"stopped after step {step + 1} of {config.steps}: {kept}")
    if best is not None:
        model.load_state_dict(best)
    if not shared:
        copy_from_first(model)
    model.eval()
    return history


def _seed_step(seed: int, step: int, rank: int) -> None:
    """Dropout of a step follows from seed, step and process."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0]) >> 1)


def _descend(
    step: int,
    step_losses: Callable[[int], Iterable[Tensor]],
    optimizer: torch.optim.Optimizer,
    parameters: list[torch.nn.Parameter],
    clip_norm: float,
    history: History,
    shared: bool,
) -> None:
    """One optimizer step; refuses to take it on a loss or gradient that is not finite."""
    optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=parameters[0].device)
    for loss in step_losses(step):
        loss.backward()
        total += loss.detach()
    if shared:
        sum_gradients(parameters)
        total = sum_over_ranks(total)
    value = total.item()
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip_norm or math.inf)
    if not (math.isfinite(value) and torch.isfinite(norm)):
        what = f"the loss is {value}" if not math.isfinite(value) else f"the gradient's norm is {norm.item()}"
        raise DsamlError(f"step {step + 1}: {what}; lower the learning rate (the last good checkpoint is kept)")
    optimizer.step()
    history.loss.append(value)
