"""A listener as a point in a space of few dimensions, with a closed-form posterior."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsaml.arena.base import Personalizer, Prediction, State, atanh, flat, inverse_softplus, parameter
from dsaml.arena.world import Asked
from dsaml.learn.losses import score_loss


class LowRank(Personalizer):
    """Bayesian linear regression on ``RANK`` learned directions of taste and an offset; the prior over listeners is N(0, I).

    For each dimension a listener's curve is tanh(base + basis w). The learned noise counts for correlated frames. The posterior of
    w is normal, by one Cholesky factorization. The prior's standard deviation is scaled, for each dimension, by what makes squared
    errors on validation listeners least (empirical Bayes): where one song of a person tells nothing of the next, that is 0, and the
    listener stays who nobody in particular is. The variance of a prediction is what is left of its spread (delta method), a share
    of ``|w|^2``, since the directions themselves are known with an error, and a constant.
    """

    name, source = "low-rank Bayesian listener", "Bayesian linear regression (Bishop 2006, 3.3), meta-trained"
    RANK = 4
    BELIEFS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
    NOBODY = 0.25  # part of the loss
    belief: Tensor  # (2,) factor of the prior's standard deviation, one of BELIEFS for each dimension
    calibration: Tensor  # (3, 2) of the variance: factor of the spread, of |w|^2, and what is added

    def __init__(self, *args):
        super().__init__(*args)
        self.directions = nn.Linear(self.config.width, 2 * self.RANK)
        self.offset = parameter(inverse_softplus(0.3), 2)  # prior SD of a listener's offset
        self.noise = parameter(inverse_softplus(1.0), 2)  # SD of a frame, as if frames were independent
        self.register_buffer("belief", torch.ones(2))
        self.register_buffer("calibration", torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]))

    def basis(self, h: Tensor) -> Tensor:
        """(..., T, H) -> (..., T, 2, RANK + 1)."""
        directions = self.directions(h).unflatten(-1, (2, self.RANK))
        offset = F.softplus(self.offset)[:, None].expand(*directions.shape[:-1], 1)
        return torch.cat((directions, offset), -1) * self.belief[:, None]

    def loss(self, support: Tensor, y: Tensor, query: Tensor, target: Tensor) -> Tensor:
        """A part of it is for somebody of whom nothing is known: where one song says nothing, all depends on that curve."""
        nobody = score_loss(self.average(query).tanh(), target).mean()
        return (1 - self.NOBODY) * super().loss(support, y, query, target) + self.NOBODY * nobody

    def settle(self, asked: Sequence[Asked]) -> None:
        songs = [(h, part.y, query, part.target) for (h, query), part in zip(self.heard(asked), asked, strict=True)]
        errors = []
        for belief in self.BELIEFS:
            self.belief.fill_(belief)
            off = [self.predict(self.adapt(h, y), query).mean - target for h, y, query, target in songs]
            errors.append(torch.cat([x.square().flatten(0, 2) for x in off]).mean(0))  # (2,)
        self.belief.copy_(torch.tensor(self.BELIEFS)[torch.stack(errors).argmin(0)])

    def adapt(self, h: Tensor, y: Tensor) -> State:
        h = flat(h[..., : y.shape[-2], :])  # (K, N, H)
        basis = (self.basis(h) / F.softplus(self.noise)[:, None]).transpose(1, 2)  # (K, 2, N, RANK + 1)
        residual = ((atanh(flat(y)) - self.average(h)) / F.softplus(self.noise)).mT[..., None]  # (K, 2, N, 1)
        factor = torch.linalg.cholesky(basis.mT @ basis + torch.eye(self.RANK + 1))
        return {"w": torch.cholesky_solve(basis.mT @ residual, factor)[..., 0], "factor": factor}

    def predict(self, state: State, h: Tensor) -> Prediction:
        basis = self.basis(h)  # (K, B, T, 2, RANK + 1)
        mean = (self.average(h) + torch.einsum("kbtdr,kdr->kbtd", basis, state["w"])).tanh()
        rows = basis.permute(0, 3, 4, 1, 2).flatten(3)  # (K, 2, RANK + 1, B T)
        whitened = torch.linalg.solve_triangular(state["factor"], rows, upper=False)
        spread = whitened.square().sum(2).unflatten(-1, h.shape[1:3]).permute(0, 2, 3, 1)  # basis' A^-1 basis
        factor, share, added = self.calibration
        taste = state["w"].square().sum(-1)[:, None, None]  # (K, 1, 1, 2)
        return Prediction(mean, (1 - mean.square()).square() * spread * factor + taste * share + added)

    def size(self, state: State) -> int:
        """Of the symmetric factor one half is stored."""
        width = self.RANK + 1
        return 4 * 2 * (width + width * (width + 1) // 2)
