"""The two loops of MAML in single moves: what the page "Two loops" steps through, computed by the package's own meta-learning.

The problem is as small as it can be: a model of two weights, one of arousal and one of valence, hears one number at a time and says
weight times number. A listener is two weights too. So everything that happens is a point or an arrow in a plane.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dsaml.config import MetaConfig, ModelConfig
from dsaml.learn.maml import Batch, inner_update, meta_loss, mode, stack
from dsaml.model.dsaml import Output
from dsaml.plots.style import LISTENER_COLORS

LISTENERS = {"A": (1.0, 0.8), "B": (-0.6, 1.0), "C": (-1.0, -0.7), "D": (0.8, -0.9)}  # their weights: arousal, valence
BATCHES = (("A", "B"), ("C", "D"), ("B", "D"), ("A", "C"))  # who is drawn in each turn of the outer loop
START = (-1.3, -0.2)  # far from everybody's middle
OUTER_LR = 2.0
STEPS = 8  # of a song
CONFIG = MetaConfig(inner_steps=1, inner_lr=0.5, loss="mse", second_order=True, inner_mode="eval", query_mode="eval")


class TwoWeights(nn.Module):
    """Says weight times what it hears: (B, T, 1) -> (B, T, 2); with adapted weights (K, 2) also (K, B, T, 1) -> (K, B, T, 2)."""

    config = ModelConfig(attention_loss_weight=0.0)

    def __init__(self, weight: tuple[float, float]):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x: Tensor, global_embedding: Tensor, stage: str, there: Tensor | None = None) -> Output:
        """DSAML's call."""
        weight = self.weight.reshape(*self.weight.shape[:-1], 1, 1, 2)
        return Output(x * weight, None, None, x)


def song(phase: float) -> Tensor:
    """A song of one number at each step: (T, 1)."""
    return 1.4 * torch.sin(torch.linspace(0, 2 * math.pi, STEPS + 1)[:-1] + phase)[:, None]


def task(names: tuple[str, ...], phase: float) -> Batch:
    """One song of each of these listeners, with their own labels: K tasks of one song."""
    x = torch.stack([song(phase + k) for k in range(len(names))])[:, None]  # (K, 1, T, 1)
    own = torch.tensor([LISTENERS[name] for name in names])[:, None, None]  # (K, 1, 1, 2)
    return Batch(x, x.new_zeros(len(names), 1, 1, 1), x * own)


def moves() -> list[dict[str, Any]]:
    """Every single move of the two loops, in order: ``turn`` of the outer loop, ``line`` of the algorithm on the page, ``theta``
    (arousal, valence) and its ``path`` so far, ``listeners`` who are drawn, ``adapted`` weights and ``losses`` by listener where
    there are some, the ``outer`` gradient step where it is known."""
    model, out = TwoWeights(START), []
    path: list[list[float]] = []
    for turn, names in enumerate(BATCHES, start=1):
        support, query = task(names, 0.3 * turn), task(names, 1.5 + 0.3 * turn)
        theta = model.weight.tolist()
        path.append(theta)
        frame = {"turn": turn, "theta": theta, "path": list(path), "listeners": list(names)}
        out.append({**frame, "line": 2})
        with mode(model, "eval"):
            weights = stack(model, CONFIG.adapt, len(names))
            adapted = inner_update(model, weights, support, CONFIG, CONFIG.inner_steps, CONFIG.second_order)
        losses = meta_loss(model, support, query, CONFIG)
        moved = dict(zip(names, adapted["weight"].tolist(), strict=True))
        for k in range(1, len(names) + 1):
            out.append({**frame, "line": 4, "adapted": {name: moved[name] for name in names[:k]}})
        said = dict(zip(names, losses.tolist(), strict=True))
        out.append({**frame, "line": 5, "adapted": moved, "losses": said})
        (gradient,) = torch.autograd.grad(losses.mean(), model.weight)
        step = (-OUTER_LR * gradient).tolist()
        out.append({**frame, "line": 6, "adapted": moved, "losses": said, "outer": step})
        with torch.no_grad():
            model.weight += torch.tensor(step)
    theta = model.weight.tolist()
    out.append({"turn": len(BATCHES), "line": 7, "theta": theta, "path": [*path, theta], "listeners": []})
    return out


def write(folder: Path) -> None:
    """Write ``data.js``, which the page's script reads."""
    colors = dict(zip(LISTENERS, LISTENER_COLORS, strict=False))
    people = [{"id": name, "color": colors[name], "weights": weights} for name, weights in LISTENERS.items()]
    data = {"inner": CONFIG.inner_lr, "outer": OUTER_LR, "listeners": people, "moves": moves()}
    (folder / "data.js").write_text(f"window.dsamlLoops = {json.dumps(data)};\n", encoding="utf-8")
