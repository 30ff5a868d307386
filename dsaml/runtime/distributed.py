"""Several processes, one training run: the tasks of each step are shared out, the gradients summed.

Start it with ``torchrun --nproc-per-node N -m dsaml train …``. Alone, every function here does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from dsaml.errors import DsamlError

T = TypeVar("T")


def ranks() -> tuple[int, int]:
    """This process's number and how many there are: (0, 1) alone."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def _number(name: str, default: int) -> int:
    """A variable that ``torchrun`` sets."""
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise DsamlError(f"{name}={text}: not a whole number; torchrun sets it, so unset it and start with torchrun")
    return int(text)


@contextmanager
def processes(device: str = "cpu", timeout_seconds: float = 600) -> Iterator[str]:
    """Join the processes that ``torchrun`` started; gives the device of this one. Alone it only gives ``device`` back.

    Parameters
    ----------
    device : {"cpu", "cuda", "mps"}
        On "cuda" each process of a machine takes its own GPU.
    timeout_seconds : float
        How long to wait for a process that has died.

    Raises
    ------
    DsamlError
        If the environment is not one of ``torchrun``, or there are fewer GPUs than processes.
    """
    if _number("WORLD_SIZE", 1) < 2:
        yield device
        return
    if device == "cuda":
        local = _number("LOCAL_RANK", 0)
        if local >= torch.cuda.device_count():
            raise DsamlError(f"torchrun started process {local}, but there are {torch.cuda.device_count()} GPUs")
        torch.cuda.set_device(local)
        device = f"cuda:{local}"
    backend = "nccl" if device.startswith("cuda") else "gloo"
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout_seconds))
    except ValueError as error:  # a variable that torchrun sets is missing or odd
        said = str(error).splitlines()[0]
        raise DsamlError(f"WORLD_SIZE={os.environ['WORLD_SIZE']}: {said}; start with torchrun, or unset it") from error
    try:
        yield device
    finally:
        dist.destroy_process_group()


def share(items: Sequence[T]) -> list[T]:
    """This process's part of a step's tasks.

    Raises
    ------
    DsamlError
        If there are fewer tasks than processes.
    """
    rank, size = ranks()
    if len(items) < size:
        raise DsamlError(f"{len(items)} tasks per step cannot be shared by {size} processes; start fewer")
    return list(items[rank::size])


def sum_over_ranks(value: Tensor) -> Tensor:
    """The sum of every process's value."""
    if ranks()[1] > 1:
        value = value.detach().clone()
        dist.all_reduce(value)
    return value


def sum_gradients(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Replace each gradient by its sum over the processes, in one message."""
    if ranks()[1] == 1:
        return
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = sum_over_ranks(torch.cat([g.flatten() for g in gradients]))
    for parameter, part in zip(parameters, flat.split([g.numel() for g in gradients]), strict=True):
        parameter.grad = part.view_as(parameter)


def from_first(value: float, device: str = "cpu") -> float:
    """The first process's value, everywhere."""
    if ranks()[1] == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64 if device != "mps" else torch.float32, device=device)
    dist.broadcast(shared, 0)
    return shared.item()


def wait_for_all() -> None:
    """Return when every process has come here."""
    if ranks()[1] > 1:
        dist.barrier()
