"""Predictions for songs longer than a clip: 60-step windows that move over the song (released code)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dsaml.audio.features import Features
from dsaml.config import CLIP_STEPS

HOPS = {"arousal": 5, "valence": 1}  # steps between two windows, as in the released code


def window_starts(steps: int, hop: int, window: int = CLIP_STEPS) -> list[tuple[int, int, int]]:
    """Where windows start, and which steps each one decides.

    The first window decides all of its steps; each later one decides the last ``hop`` steps, that is, those no earlier window
    reaches. The last window ends with the song.

    Parameters
    ----------
    steps : int
        Length of the song.
    hop : int
        Steps between two windows.
    window : int
        Steps of a window.

    Returns
    -------
    list of (start, first decided step, one past the last decided step)
    """
    plan = [(0, 0, min(window, steps))]
    while plan[-1][2] < steps:
        done = plan[-1][2]
        upto = min(done + hop, steps)
        plan.append((upto - window, done, upto))
    return plan


@torch.no_grad()
def predict_song(
    predict: Callable[[Tensor, Tensor], Tensor],
    features: Features,
    *,
    released: bool = False,
    hops: Mapping[str, int] = HOPS,
    at_once: int = 64,
) -> Tensor:
    """Arousal and valence of a whole song.

    Parameters
    ----------
    predict : callable
        From log-mels (W, 60, t, m) and global embeddings (W, 1 or 60, D) to predictions (W, 60, 2).
    features : Features
        Of T steps.
    released : bool
        Repeat the released code's off-by-one: windows of arousal after the first start one step late (6, 11, ... instead of 5,
        10, ...), which shifts its curve by one step.
    hops : mapping of str to int
        Steps between two windows, for each dimension; larger is faster.
    at_once : int
        Windows in one batch.

    Returns
    -------
    Tensor, shape (T, 2)
    """
    log_mel, embedding = features.log_mel, features.global_embedding
    steps = log_mel.shape[0]
    plans = {name: window_starts(steps, hop) for name, hop in hops.items()}
    late = {name: int(released and name == "arousal") for name in hops}

    def shifted(name: str, start: int) -> int:
        return min(start + late[name], max(0, steps - CLIP_STEPS)) if start else 0

    starts = sorted({shifted(name, start) for name, plan in plans.items() for start, _, _ in plan})
    windows: dict[int, Tensor] = {}
    for first in range(0, len(starts), at_once):
        part = starts[first : first + at_once]
        x = torch.stack([log_mel[s : s + CLIP_STEPS] for s in part])
        wide = embedding.shape[0] > 1
        g = torch.stack([embedding[s : s + CLIP_STEPS] if wide else embedding for s in part])
        windows |= dict(zip(part, predict(x, g), strict=True))
    out = log_mel.new_zeros(steps, 2)
    for column, (name, plan) in enumerate(plans.items()):
        for start, begin, end in plan:
            out[begin:end, column] = windows[shifted(name, start)][begin - start : end - start, column]
    return out
