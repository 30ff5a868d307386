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
from dsaml.errors import DsamlError
from dsaml.io import seal, unseal, write_bytes_atomically
from dsaml.learn.distributed import copy_from_first, from_first, ranks, sum_gradients, sum_over_ranks, wait_for_all
from dsaml.model.dsaml import DSAML


@dataclass
class History:
    """What a run did.

    Attributes
    ----------
    loss : list of float
        Training loss of each step.
    validation : list of (step, mean CCC over both dimensions)
        Step 0 is the model as it came.
    best_step : int
        Where validation was best; the weights of that step are the result.
    adapted : list of (step, mean CCC over both dimensions)
        The same after adaptation to each validation annotator, where a model that is not meta-trained is also scored so.
    best_adapted : int
        Where that was best.
    """

    loss: list[float] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    best_step: int = 0
    adapted: list[tuple[int, float]] = field(default_factory=list)
    best_adapted: int = 0


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
    validate_adapted: Callable[[], float] | None = None,
    adapted: bool = False,
) -> History:
    """Train ``model`` in place; it ends in eval mode with the best validated weights, those it came with among them.

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
    validate_adapted : callable, optional
        A second score, after adaptation to a listener; its best weights are kept beside the first one's.
    adapted : bool
        Whether the model ends with the weights that were best by the second score.

    Raises
    ------
    DsamlError
        If the loss or a gradient is not finite, the checkpoint cannot be written, or the run is interrupted (Ctrl-C, SIGTERM).
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    scores = {"validation": validate} | ({"adapted": validate_adapted} if validate_adapted else {})
    history, start = History(), 0
    best: dict[str, Any] = dict.fromkeys(scores)  # weights, by what they are best at
    if run.resume and run.checkpoint is not None and run.checkpoint.is_file():
        state = read_checkpoint(run.checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        history, best, start = History(**state["history"]), state["best"], state["step"]
        if missing := set(scores) - set(best):
            raise DsamlError(f"{run.checkpoint}: was written without {', '.join(missing)}; delete it and train again")
    wait_for_all()  # nobody writes a checkpoint that another one is about to read

    def save(step: int) -> None:
        if run.checkpoint is not None and ranks()[0] == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            _save(run.checkpoint, state | {"history": vars(history), "best": best})

    def stopped_early(step: int) -> bool:
        patience = config.patience * validate_every
        return bool(patience) and step - max(history.best_step, history.best_adapted) >= patience

    def validate_all(step: int) -> None:
        for name, score_now in scores.items():
            curve: list[tuple[int, float]] = getattr(history, name)
            score = from_first(score_now(), run.device)
            if not curve or score > max(value for _, value in curve):
                setattr(history, "best_step" if name == "validation" else "best_adapted", step)
                best[name] = {key: tensor.clone() for key, tensor in model.state_dict().items()}
            curve.append((step, score))

    with arithmetic(run.device, run.precision), _interruptible() as interrupted, _event_log(run.logs, start) as event:
        if not history.validation:
            validate_all(0)
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
                validate_all(step + 1)
                event("validation CCC", history.validation[-1][1], step + 1)
            last = step + 1 == config.steps or stopped_early(step + 1)
            if (step + 1) % run.save_every == 0 or last or interrupted():
                save(step + 1)
            run.progress(step + 1, config.steps, history)
            if interrupted() and not last:
                kept = f"saved in {run.checkpoint}; the same command goes on" if run.checkpoint else "nothing is saved"
                raise DsamlError(f"stopped after step {step + 1} of {config.steps}: {kept}")
    model.load_state_dict(best["adapted" if adapted else "validation"])
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
