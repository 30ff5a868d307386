"""What a training reports, where TensorBoard reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dsaml.errors import DsamlError
from dsaml.runtime.distributed import ranks


@contextmanager
def event_log(folder: Path | None, start: int) -> Iterator[Callable[[str, float, int], None]]:
    """A function that writes (name, value, step), from step ``start`` on; nothing without a folder or in a later process.

    Raises
    ------
    DsamlError
        If the package tensorboard is missing.
    """
    if folder is None or ranks()[0]:
        yield lambda name, value, step: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise DsamlError(f"{folder}: logs need the package tensorboard; install it or leave --logs out") from error
    with SummaryWriter(str(folder), purge_step=start or None) as writer:
        yield writer.add_scalar
