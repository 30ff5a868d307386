"""Every listener is a mixture of a few typical ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsaml.arena.base import Personalizer, Prediction, State, flat, inverse_softplus, parameter


class Prototypes(Personalizer):
    """``COUNT`` typical curves per dimension; the posterior of which one it is, given the support labels, weighs them."""

    name, source = "listener prototypes", "mixture of experts with a Bayesian gate (Jacobs et al. 1991)"
    COUNT = 4
    calibration: Tensor  # (3, 2) of the variance: factor of the spread, of how far from the average, and what is added

    def __init__(self, *args):
        super().__init__(*args)
        self.curves = nn.Linear(self.config.width, 2 * self.COUNT)
        self.prior = parameter(0.0, 2, self.COUNT)
        self.noise = parameter(inverse_softplus(1.0), 2)  # SD of a frame, as if frames were independent
        self.register_buffer("calibration", torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]))

    def typical(self, h: Tensor) -> Tensor:
        """(..., T, H) -> (..., T, 2, COUNT)."""
        return (self.average(h)[..., None] + self.curves(h).unflatten(-1, (2, self.COUNT))).tanh()

    def adapt(self, h: Tensor, y: Tensor) -> State:
        h = flat(h[..., : y.shape[-2], :])
        typical = self.typical(h)  # (K, N, 2, COUNT)
        evidence = (typical - flat(y)[..., None]).square().sum(1) / (2 * F.softplus(self.noise).square()[:, None])
        weights = (self.prior - evidence).softmax(-1)  # (K, 2, COUNT)
        own = (typical * weights[:, None]).sum(-1)
        return {"weights": weights, "away": (own - self.average(h).tanh()).square().mean(1)}  # and (K, 2)

    def predict(self, state: State, h: Tensor) -> Prediction:
        typical, weights = self.typical(h), state["weights"][:, None, None]
        mean = (typical * weights).sum(-1)
        factor, share, added = self.calibration
        spread = ((typical - mean[..., None]).square() * weights).sum(-1)
        return Prediction(mean, spread * factor + state["away"][:, None, None] * share + added)
