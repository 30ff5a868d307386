"""Methods that adapt by gradient steps on the support loss: one copy of the weights for each listener, all at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from dsaml.arena.base import Personalizer, Prediction, State
from dsaml.learn.losses import score_loss

STEPS = tuple({"steps": steps, "lr": lr} for steps in (1, 3, 10) for lr in (0.01, 0.03, 0.1, 0.3))
INNER = tuple(
    {"inner_steps": steps, "inner_lr": lr, "second_order": second}
    for steps, lr in ((3, 0.1), (5, 0.03), (1, 0.1))
    for second in (False, True)
)
"""Inner loops to train with."""


class FineTuning(Personalizer):
    """The floor's network, all of it, goes on learning on the support set."""

    name, source, start = "fine-tuning", "floor", "no adaptation"
    grid = ({"steps": 0, "lr": 0.0}, *STEPS)
    adapted: tuple[str, ...] = ("backbone.", "base.")  # how the names of the weights begin that change

    def encode(self, x: Tensor) -> Tensor:
        return x  # the backbone is each listener's own

    def network(self, x: Tensor) -> Tensor:
        """What ``adapt`` and ``predict`` run with a listener's weights: (..., T, F) -> (..., T, 2)."""
        return self.average(self.backbone(x)).tanh()

    def curves(self, weights: State, x: Tensor) -> Tensor:
        """(K, B, T, F) -> (K, B, T, 2), with K sets of weights."""

        def one(own: State, songs: Tensor) -> Tensor:
            return functional_call(_Network(self), {f"method.{name}": weight for name, weight in own.items()}, (songs,))

        return vmap(one, randomness="different")(weights, x)

    def descend(self, weights: State, gradients: tuple[Tensor, ...], lr: float) -> State:
        """One step."""
        return {
            name: weight - lr * gradient for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
        }

    def adapt(self, h: Tensor, y: Tensor) -> State:
        steps = self.settings.get("steps", self.config.training.inner_steps)
        lr = self.settings.get("lr", self.config.training.inner_lr)
        own = {name: weight for name, weight in self.named_parameters() if name.startswith(self.adapted)}
        through = self.training and self.config.training.second_order
        with torch.enable_grad():
            weights = {name: weight.expand(len(h), *weight.shape) for name, weight in own.items()}
            for _ in range(steps):
                loss = score_loss(self.curves(weights, h)[..., : y.shape[-2], :], y).sum()
                gradients = torch.autograd.grad(loss, tuple(weights.values()), create_graph=through)
                weights = self.descend(weights, gradients, lr)
        return weights if self.training else {name: weight.detach() for name, weight in weights.items()}

    def predict(self, state: State, h: Tensor) -> Prediction:
        return Prediction(self.curves(state, h))


class _Network(nn.Module):
    """A method's network as a module's forward, which ``functional_call`` wants."""

    def __init__(self, method: FineTuning):
        super().__init__()
        self.method = method

    def forward(self, x: Tensor) -> Tensor:
        return self.method.network(x)


class Maml(FineTuning):
    """The same, from a starting point that was trained for it."""

    name, source, start = "MAML (the paper)", "Finn et al. 2017; Eq. 4", None
    trainings = INNER


class Anil(Maml):
    """MAML that changes the last layer alone."""

    name, source = "ANIL", "Raghu et al. 2020"
    adapted = ("base.",)

    def encode(self, x: Tensor) -> Tensor:
        return self.backbone(x)

    def network(self, x: Tensor) -> Tensor:
        return self.average(x).tanh()


class MetaSgd(Maml):
    """MAML with a learned rate for every weight."""

    name, source = "Meta-SGD", "Li et al. 2017"
    grid = tuple({"steps": steps} for steps in (1, 2, 3, 5))

    def __init__(self, *args):
        super().__init__(*args)
        lr = self.config.training.inner_lr
        self.rates = nn.ParameterDict(
            {
                name.replace(".", "/"): torch.full_like(p, lr)
                for name, p in self.named_parameters()
                if name.startswith(self.adapted)
            }
        )

    def descend(self, weights: State, gradients: tuple[Tensor, ...], lr: float) -> State:
        return {
            name: weight - self.rates[name.replace(".", "/")] * gradient
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
        }


class Reptile(Maml):
    """The starting point moves towards where steps on one song of a task after the other end."""

    name, source = "Reptile", "Nichol et al. 2018"
    trainings = tuple(
        {"inner_lr": lr, "learning_rate": rate} for rate in (3e-3, 1e-3) for lr in (0.1, 0.03, 0.3)
    )

    def loss(self, support: Tensor, y: Tensor, query: Tensor, target: Tensor) -> Tensor:
        songs, labels = torch.cat((support, query), 1), torch.cat((y, target), 1)
        own = dict(self.named_parameters())
        ends = {name: weight.expand(len(songs), *weight.shape) for name, weight in own.items()}
        for song in range(songs.shape[1]):
            loss = score_loss(self.curves(ends, songs[:, song, None]), labels[:, song, None]).sum()
            ends = self.descend(ends, torch.autograd.grad(loss, tuple(ends.values())), self.config.training.inner_lr)
        # the gradient of this is start minus mean end
        return torch.stack([(own[name] - end.detach().mean(0)).square().sum() / 2 for name, end in ends.items()]).sum()
