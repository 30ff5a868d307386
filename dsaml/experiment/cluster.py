"""A Dask cluster: many machines that see one file system."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

import torch

from dsaml.audio.features import FeatureCache
from dsaml.audio.song import Song
from dsaml.errors import DsamlError

AHEAD = 4  # songs that are asked for at once, for each thread of the cluster


def client(scheduler: str) -> Any:
    """A connection to a Dask scheduler, ``tcp://host:8786``.

    Raises
    ------
    DsamlError
        If there is no such scheduler, or Dask is not installed.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise DsamlError("a Dask cluster needs the package distributed; install it, or leave --scheduler out") from error
    try:
        return Client(scheduler, timeout=10)
    except (OSError, TimeoutError, ValueError) as error:
        raise DsamlError(f"{scheduler}: no Dask scheduler answers there ({error}); start 'dask scheduler'") from error


def compute_features(
    cache: FeatureCache,
    songs: Mapping[str, tuple[Song, int]],
    scheduler: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """:meth:`~dsaml.audio.features.FeatureCache.compute` on a cluster, whose workers see the same audio and the same folder.

    Workers get the encoder once; nothing comes back but whether a song was new. The songs of a lost worker go to another one.

    Raises
    ------
    DsamlError
        See :func:`client` and ``FeatureCache.get``; what was computed before it stays in the folder.
    """
    made, waiting = 0, iter(songs.values())
    with client(scheduler) as connected:
        from distributed import as_completed

        there = connected.scatter(cache, broadcast=True, hash=False)

        def ask(count: int) -> list[Any]:
            return [connected.submit(_make, there, *song, pure=False) for song in islice(waiting, count)]

        answers = as_completed(ask(AHEAD * max(1, sum(connected.nthreads().values()))))
        for done, answer in enumerate(answers, 1):
            made += answer.result()
            progress(done, len(songs))
            for asked in ask(1):
                answers.add(asked)
    return made


def _make(cache: FeatureCache, song: Song, steps: int) -> bool:
    torch.set_num_threads(1)
    return cache.make(song, steps)
