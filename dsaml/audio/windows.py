"""Predictions for songs longer than a clip: 60-step windows that move over the song (released code)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dsaml.audio.features import Features
from dsaml.config import CLIP_STEPS

HOPS = {"arousal": 10, "valence": 10}
"""Steps between two windows: 5 s."""
RELEASED_HOPS = {"arousal": 5, "valence": 1}
"""The released code's, which take ten times as long."""


def plan_windows(steps: int, hop: int, late: int = 0, clip: int = CLIP_STEPS) -> list[tuple[int, int, int]]:
    """Where the windows of a song of ``steps`` steps start, and which steps each one decides with its last predictions.

    The first window decides all of its steps; each later one, ``hop`` steps on, those that no earlier window reaches. The last
    window ends with the song. With ``late``, all but the first start that many steps late where there is audio left. Windows have
    ``clip`` steps; a shorter song is one.

    Returns
    -------
    list of (start, first decided step, one past the last decided step)
    """
    plan = [(0, 0, min(clip, steps))]
    while (done := plan[-1][2]) < steps:
        end = min(done + hop, steps)
        plan.append((min(end - clip + late, steps - clip), done, end))
    return plan


@torch.no_grad()
def predict_song(
    predict: Callable[[Tensor, Tensor], Tensor],
    features: Features,
    *,
    released: bool = False,
    at_once: int = 64,
    clip: int = CLIP_STEPS,
) -> Tensor:
    """Arousal and valence of a whole song of T steps.

    Parameters
    ----------
    predict : callable
        From log-mels (W, clip, t, m) and global embeddings (W, 1 or clip, D) to predictions (W, clip, 2).
    released : bool
        The released code's windows, ``RELEASED_HOPS`` instead of ``HOPS``, with its off-by-one: windows of arousal after the
        first start one step late (6, 11, ... instead of 5, 10, ...), which shifts its curve by one step.
    at_once : int
        Windows in one batch.
    clip : int
        Steps of a window: those of the clips that the model was trained on.

    Returns
    -------
    Tensor, shape (T, 2)
    """
    log_mel, embedding = features.log_mel, features.global_embedding
    steps, wide = len(log_mel), len(embedding) > 1
    hops = RELEASED_HOPS if released else HOPS
    plans = [plan_windows(steps, hop, int(released and name == "arousal"), clip) for name, hop in hops.items()]
    starts = sorted({start for plan in plans for start, _, _ in plan})
    predicted: dict[int, Tensor] = {}  # by the window's start: (60, 2)
    for first in range(0, len(starts), at_once):
        part = starts[first : first + at_once]
        x = torch.stack([log_mel[s : s + clip] for s in part])
        g = torch.stack([embedding[s : s + clip] if wide else embedding for s in part])
        predicted |= dict(zip(part, predict(x, g), strict=True))
    out = log_mel.new_zeros(steps, 2)
    for column, plan in enumerate(plans):
        for start, begin, end in plan:
            out[begin:end, column] = predicted[start][begin - end :, column]
    return out
