"""What the tests of one's own music share: an untrained light model that hears differences, songs, somebody's curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

from dsaml.arena.base import ArenaConfig, Backbone
from dsaml.arena.low_rank import LowRank
from dsaml.config import DEMO
from dsaml.listen import DEMO_MODEL
from dsaml.listen.light import Familiar, LightModel

INPUTS = 128  # 64 bands, mean and deviation
STAMP = {"dataset": "synthetic", "profile": "demo", "real": False}


def light_model(about: dict = STAMP) -> LightModel:
    """Untrained; its training songs were nothing but the scale's middle and a step beside it."""
    torch.manual_seed(0)
    config = ArenaConfig(width=16)
    method = LowRank(Backbone(INPUTS, config), config).eval()
    scale = torch.stack((torch.full((INPUTS,), -6.0), torch.ones(INPUTS)))
    familiar = Familiar.of(torch.tensor([0.0, 3.0])[:, None, None].expand(2, 5, INPUTS))
    return LightModel(method, scale, DEMO, about, "the model", familiar=familiar)


def at_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the demo's model, untrained, and an empty album."""
    monkeypatch.chdir(folder)
    DEMO_MODEL.parent.mkdir()
    light_model().save(DEMO_MODEL)
    (folder / "album").mkdir()
    return folder


def write_song(path: Path, seconds: float = 30, pace: float = 1.5, rate: int = 22_050) -> Path:
    """A tone that swells."""
    time = np.arange(round(seconds * rate)) / rate
    loud = 0.5 + 0.45 * np.sin(time / pace)
    noise = 0.003 * np.random.default_rng(0).normal(size=len(time))
    sf.write(path, 0.3 * loud * np.sin((150 + 50 * pace) * time) + noise, rate)
    return path


def write_curve(path: Path, seconds: float = 29.5, pace: float = 1.5) -> Path:
    """Of somebody who likes it loud."""
    time = np.arange(0.0, seconds, 0.5)
    swell = np.sin(time / pace)
    pd.DataFrame({"time_s": time, "arousal": swell / 2, "valence": swell / 3}).to_csv(path, index=False)
    return path
