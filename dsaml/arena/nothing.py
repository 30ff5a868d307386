"""The floors of the arena: what can be said of a listener without learning how listeners differ."""

from __future__ import annotations

import torch
from torch import Tensor

from dsaml.arena.base import Personalizer, Prediction, State, flat


class Nothing(Personalizer):
    """The same curve for everybody, trained on every listener's labels."""

    name, source = "no adaptation", "floor"

    def adapt(self, h: Tensor, y: Tensor) -> State:
        return {}

    def predict(self, state: State, h: Tensor) -> Prediction:
        return Prediction(self.average(h).tanh())


class Shift(Personalizer):
    """That curve, moved so that its mean is right on the support labels."""

    name, source, start = "shift", "floor", "no adaptation"

    def adapt(self, h: Tensor, y: Tensor) -> State:
        known = self.average(h)[..., : y.shape[-2], :].tanh()
        return {"shift": (flat(y) - flat(known)).mean(1)}  # (K, 2)

    def predict(self, state: State, h: Tensor) -> Prediction:
        return Prediction(self.average(h).tanh() + state["shift"][:, None, None])


class OffsetAndGain(Personalizer):
    """y = offset + gain * curve, with a normal prior over listeners that the training listeners give (empirical Bayes).

    Each training listener's offset and gain are fitted to all of their songs; mean and covariance of these are the prior, the
    mean squared residual is the noise. A support song of n frames counts as n / ``frames`` independent ones.
    """

    name, source, start = "offset and gain, shrunken", "empirical Bayes (Robbins 1956)", "no adaptation"
    grid = tuple({"frames": frames} for frames in (1, 5, 20, 60))

    def __init__(self, *args):
        super().__init__(*args)
        # (2, 2): of arousal and of valence; offset, gain
        self.register_buffer("prior_mean", torch.tensor([[0.0, 1.0]] * 2))
        self.register_buffer("prior_precision", torch.eye(2).repeat(2, 1, 1))
        self.register_buffer("noise", torch.ones(2))

    @torch.no_grad()
    def prepare(self, h: Tensor, y: Tensor) -> None:
        curves, fits, left = self.average(h).tanh(), [], []
        for labels in y:  # of one listener
            rated = ~labels[..., 0, 0].isnan()
            curve = curves[rated].flatten(0, 1).T  # (2, N)
            design = torch.stack((torch.ones_like(curve), curve), -1)  # (2, N, 2)
            target = labels[rated].flatten(0, 1).T.unsqueeze(-1)  # (2, N, 1)
            fit = torch.linalg.lstsq(design, target).solution  # (2, 2, 1)
            fits.append(fit[..., 0])
            left.append((target - design @ fit).square().mean((1, 2)))
        every = torch.stack(fits)  # (listeners, 2, 2)
        self.prior_mean, self.noise = every.mean(0), torch.stack(left).mean(0)
        centred = (every - every.mean(0)).transpose(0, 1)  # (2, listeners, 2)
        covariance = centred.mT @ centred / (len(every) - 1) + 1e-5 * torch.eye(2)
        self.prior_precision = torch.linalg.inv(covariance)

    def adapt(self, h: Tensor, y: Tensor) -> State:
        curve = flat(self.average(h)[..., : y.shape[-2], :].tanh()).mT  # (K, 2, N)
        design = torch.stack((torch.ones_like(curve), curve), -1)  # (K, 2, N, 2)
        weight = 1 / (self.noise * self.settings.get("frames", 1))[:, None, None]
        precision = self.prior_precision + weight * design.mT @ design
        moment = (self.prior_precision @ self.prior_mean[..., None]) + weight * design.mT @ flat(y).mT[..., None]
        return {"offset_gain": torch.linalg.solve(precision, moment)[..., 0]}  # (K, 2, 2)

    def predict(self, state: State, h: Tensor) -> Prediction:
        offset, gain = state["offset_gain"][:, None, None].unbind(-1)  # (K, 1, 1, 2)
        return Prediction(offset + gain * self.average(h).tanh())
