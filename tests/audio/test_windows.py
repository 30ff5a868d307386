"""Sliding windows over songs longer than a clip."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsaml.audio.features import Features
from dsaml.audio.windows import plan_windows, predict_song
from dsaml.config import CLIP_STEPS


@given(steps=st.integers(1, 400), hop=st.integers(1, 60))
def test_every_step_is_decided_once_by_a_window_inside_the_song(steps, hop):
    decided = []
    for start, begin, end in plan_windows(steps, hop):
        assert start >= 0 and start <= begin < end <= start + CLIP_STEPS and end <= steps
        decided += range(begin, end)
    assert decided == list(range(steps))


def _song(steps: int) -> Features:
    """Each step's log-mel holds its own number, so that a prediction tells which step it was made from."""
    return Features(
        torch.arange(steps, dtype=torch.float32).view(steps, 1, 1).expand(steps, 2, 3), torch.zeros(steps, 4)
    )


def _echo(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    assert g.shape[1] in (1, x.shape[1])
    return x[..., 0, 0].unsqueeze(-1).expand(-1, -1, 2)


@pytest.mark.parametrize("steps", [10, 60, 61, 64, 65, 200, 203])
def test_prediction_and_step_belong_together(steps):
    out = predict_song(_echo, _song(steps), at_once=7)
    assert torch.equal(out, torch.arange(steps, dtype=torch.float32).unsqueeze(1).expand(-1, 2))


def test_released_windows_shift_arousal_by_one_step_and_leave_valence():
    out = predict_song(_echo, _song(200), released=True)
    index = torch.arange(200, dtype=torch.float32)
    assert torch.equal(out[:, 1], index)
    assert torch.equal(out[:60, 0], index[:60])
    assert torch.equal(out[60:195, 0], index[60:195] + 1)
    assert torch.equal(out[195:, 0], index[195:])  # no audio is left to shift into


def test_a_clip_s_single_embedding_serves_every_window():
    song = Features(_song(90).log_mel, torch.zeros(1, 4))
    assert predict_song(_echo, song).shape == (90, 2)
