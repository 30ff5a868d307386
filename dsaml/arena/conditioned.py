"""Networks that are told who listens: by an encoder of the support set, or by numbers found with gradient steps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsaml.arena.base import Personalizer, Prediction, State, told
from dsaml.learn.losses import score_loss

NUMBERS = 8  # that stand for a listener


class _Film(Personalizer):
    """A head whose input is scaled and shifted by a listener's numbers z (FiLM, Perez et al. 2018)."""

    def __init__(self, *args):
        super().__init__(*args)
        width = self.config.width
        self.film = nn.Linear(NUMBERS, 2 * width)
        self.hidden, self.out = nn.Linear(width, width), nn.Linear(width, 2)

    def curve(self, z: Tensor, h: Tensor) -> Tensor:
        """z (K, 8), h (K, B, T, H) -> (K, B, T, 2)."""
        scale, shift = self.film(z)[:, None, None].chunk(2, -1)
        return (self.average(h) + self.out(F.gelu(self.hidden(h) * (1 + scale) + shift))).tanh()

    def predict(self, state: State, h: Tensor) -> Prediction:
        return Prediction(self.curve(state["z"], h))


class NeuralProcess(_Film):
    """z is the mean over support frames of what a network makes of each frame and its label."""

    name, source = "neural process", "conditional neural process (Garnelo et al. 2018) with FiLM"

    def __init__(self, *args):
        super().__init__(*args)
        width = self.config.width
        self.pairs = nn.Sequential(nn.Linear(3 * width + 4, width), nn.GELU(), nn.Linear(width, width), nn.GELU())
        self.numbers = nn.Linear(width, NUMBERS)

    def adapt(self, h: Tensor, y: Tensor) -> State:
        return {"z": self.numbers(self.pairs(told(self, h, y)).mean(1))}


class Cavia(_Film):
    """z begins at 0 and takes gradient steps on the support loss; the network stays as it is."""

    name, source = "CAVIA", "Zintgraf et al. 2019"
    grid = tuple({"steps": steps, "lr": lr} for steps in (1, 3, 10) for lr in (0.5, 1.0, 3.0))

    def adapt(self, h: Tensor, y: Tensor) -> State:
        steps, lr = self.settings.get("steps", self.config.training.inner_steps), self.settings.get("lr", 1.0)
        with torch.enable_grad():
            z = torch.zeros(len(h), NUMBERS, requires_grad=True)
            for _ in range(steps):
                loss = score_loss(self.curve(z, h)[..., : y.shape[-2], :], y).sum()
                z = z - lr * torch.autograd.grad(loss, z, create_graph=self.training)[0]
                z = z if self.training else z.detach().requires_grad_()
        return {"z": z if self.training else z.detach()}
