"""Where and how exactly torch computes: the device by its name, the precision of matrix products."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from dsaml.errors import DsamlError


def choose_device(name: str = "auto") -> str:
    """The device that a name stands for; "auto" is "cuda" where there is a GPU, else "cpu". "mps" has to be asked for.

    Raises
    ------
    DsamlError
        If this machine does not have it.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return "cuda" if there["cuda"] else "cpu"
    if name not in there:
        raise DsamlError(f"device '{name}' is not known; choose one of: auto, {', '.join(there)}")
    if not there[name]:
        raise DsamlError(f"device '{name}' is not there, or this torch was built without it; use --device cpu")
    return name


def describe(device: str) -> str:
    """A device for a stamp: "cpu", or "cuda (NVIDIA H100)"."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") else device


@contextmanager
def arithmetic(device: str, precision: str) -> Iterator[None]:
    """Inside the block matrix products have this precision; weights and losses stay float32."""
    if precision not in ("float32", "tf32", "bf16"):
        raise DsamlError(f"precision '{precision}' is not known; choose one of: float32, tf32, bf16")
    before = _exactness("high" if precision == "tf32" else "highest")
    try:
        with torch.autocast(device.split(":")[0], torch.bfloat16) if precision == "bf16" else nullcontext():
            yield
    finally:
        _exactness(before)


def _exactness(name: str) -> str:
    """Set the precision of float32 matrix products; gives the one before. torch 2.9 calls this way old, and 2.2 has no other."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Please use the new API settings to control TF32")
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(name)
    return before


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside the block torch computes on one core: small steps are faster so, and round alike in every run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
