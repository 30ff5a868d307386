"""What every personalizer is: four calls, and the network that most of them share.

``fit`` learns from many listeners (:func:`dsaml.arena.fit.fit`), ``adapt`` makes a *state* of what one listener said, ``predict``
says what this listener feels in other songs, ``size`` is what has to be stored of a listener. All listeners of a call run at once.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsaml.config import MetaConfig
from dsaml.learn.losses import score_loss

if TYPE_CHECKING:
    from dsaml.arena.world import Asked

State = dict[str, Tensor]
"""What is kept of K listeners: tensors with a leading K."""


TRAINING = MetaConfig(
    steps=600,  # on validation listeners rows gain .02 from 400 to 600, and less from there to 800
    tasks_per_step=16,
    support_songs=1,
    query_songs=4,
    inner_steps=3,
    inner_lr=0.1,
    learning_rate=3e-3,
    weight_decay=0.1,
    clip_norm=1.0,
    schedule="cosine",
)
"""Meta-training: one song tells of four others. The inner loop is that of methods that take gradient steps."""


@dataclass(frozen=True)
class ArenaConfig:
    """One budget for all methods."""

    training: MetaConfig = field(default_factory=lambda: TRAINING)
    songs_per_step: int = 24  # drawn for each meta-step; tasks are made of listeners who rated enough of them
    noise: float = 0.1  # SD of what is added to standardized inputs in training
    dropout: float = 0.1  # of inputs
    width: int = 64  # H, numbers per time step that a head sees
    validate_every: int = 50  # steps
    search_steps: int = 100  # of the trainings from which a way to train is chosen

    def tuned(self, settings: Mapping[str, Any]) -> ArenaConfig:
        """The same with other settings of training, or of inputs."""
        own = {field.name for field in dataclasses.fields(self)}
        inputs = {name: value for name, value in settings.items() if name in own}
        training = {name: value for name, value in settings.items() if name not in own}
        return dataclasses.replace(self, training=dataclasses.replace(self.training, **training), **inputs)


class Prediction(NamedTuple):
    """Arousal and valence of K listeners' songs, and how sure the method is."""

    mean: Tensor  # (K, B, T, 2)
    variance: Tensor | None = None  # (K, B, T, 2); None where a method knows nothing of it


class Backbone(nn.Module):
    """Inputs of one song to H numbers per step: a linear layer, two residual convolutions over 2.5 s each, a skip.

    (..., T, F) -> (..., T, H). With ``context=False`` each step is seen by itself.
    """

    def __init__(self, inputs: int, config: ArenaConfig, context: bool = True):
        super().__init__()
        self.dropout, self.first = nn.Dropout(config.dropout), nn.Linear(inputs, config.width)
        self.norm = nn.LayerNorm(config.width)
        count = 2 if context else 0
        self.convolutions = nn.ModuleList(nn.Conv1d(config.width, config.width, 5, padding=2) for _ in range(count))
        self.last = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        x = first = self.norm(F.gelu(self.first(self.dropout(x))))
        for convolution in self.convolutions:
            x = x + F.gelu(convolution(x.flatten(0, -3).mT)).mT.unflatten(0, x.shape[:-2])
        return self.last(x + first)


class Personalizer(nn.Module, ABC):
    """A method. Subclasses give ``adapt`` and ``predict``, and read like what they are named after.

    Attributes
    ----------
    name, source : str
        As they stand in the table; where the method comes from.
    grid : tuple of dict
        Settings of ``adapt`` to be tried on validation listeners; the best becomes :attr:`settings`.
    trainings : tuple of dict
        Ways to train (see :meth:`ArenaConfig.tuned`), equally many for every method; the best on validation listeners is taken.
    start : str or None
        The method whose trained weights this one takes instead of a training of its own.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    grid: ClassVar[tuple[dict[str, Any], ...]] = ({},)
    trainings: ClassVar[tuple[dict[str, Any], ...]] = tuple(
        {"learning_rate": rate, "noise": noise, "dropout": noise} for noise in (0.1, 0.0) for rate in (3e-3, 1e-3, 6e-3)
    )
    start: ClassVar[str | None] = None

    def __init__(self, backbone: nn.Module, config: ArenaConfig):
        super().__init__()
        self.backbone, self.config = backbone, config
        self.base = nn.Linear(config.width, 2)  # the curve of somebody of whom nothing is known
        self.settings: dict[str, Any] = {}

    def encode(self, x: Tensor) -> Tensor:
        """What ``adapt`` and ``predict`` take of songs: (..., T, F) -> (..., T, H). The same for all listeners."""
        return self.backbone(x)

    def heard(self, asked: Iterable[Asked]) -> Iterator[tuple[Tensor, Tensor]]:
        """What ``encode`` makes of the songs of each group of tasks: support (K, S, T, H), query (K, B, T, H)."""
        songs = h = None
        for part in asked:
            if part.songs is not songs:
                songs, h = part.songs, self.encode(part.songs)
            yield h[part.support], h[part.query]

    def prepare(self, h: Tensor, y: Tensor) -> None:
        """Learn in closed form, after training: ``h`` (songs, T, H), ``y`` (listeners, songs, T, 2) with NaN. Most need nothing."""

    def settle(self, asked: Sequence[Asked]) -> None:
        """Learn from the tasks of listeners whom training has not met how much of them to believe. Most believe what they see."""

    @abstractmethod
    def adapt(self, h: Tensor, y: Tensor) -> State:
        """Support songs h (K, S, T, H) and their first labels y (K, S, n, 2), n <= T -> what is kept of each listener."""

    @abstractmethod
    def predict(self, state: State, h: Tensor) -> Prediction:
        """Other songs h (K, B, T, H) -> their curves."""

    def loss(self, support: Tensor, y: Tensor, query: Tensor, target: Tensor) -> Tensor:
        """What ``fit`` descends: query score loss after adaptation, mean over tasks (Eq. 4)."""
        return score_loss(self.predict(self.adapt(support, y), query).mean, target).mean()

    def size(self, state: State) -> int:
        """Bytes that have to be stored of one listener."""
        return sum(tensor[0].numel() * tensor.element_size() for tensor in state.values())

    def average(self, h: Tensor) -> Tensor:
        """The curve of somebody of whom nothing is known, before tanh: (..., T, H) -> (..., T, 2)."""
        return self.base(h)


def atanh(y: Tensor) -> Tensor:
    """Labels on the scale on which heads are linear; labels at the ends of the scale stay finite."""
    return y.clamp(-0.97, 0.97).atanh()


def inverse_softplus(value: float) -> float:
    """Where softplus is ``value``."""
    return math.log(math.expm1(value))


def flat(x: Tensor) -> Tensor:
    """(K, S, n, C) -> (K, S n, C): the frames of all support songs, one after the other."""
    return x.flatten(1, 2)


def parameter(value: float, *shape: int) -> nn.Parameter:
    """A learned number, or several that start equal."""
    return nn.Parameter(torch.full(shape, value))


def told(method: Personalizer, h: Tensor, y: Tensor) -> Tensor:
    """What a network is told of each support frame: h, the label, how far it is from the base curve, and h times that distance.

    Whom a frame speaks for lies in the product. A network that has to make the product itself stays where arousal's base curve is,
    however long it is trained: it finds no direction of taste that the prediction does not use yet, and the other way round.

    (K, S, T, H), (K, S, n, 2) -> (K, S n, 3 H + 4)
    """
    h, y = flat(h[..., : y.shape[-2], :]), flat(y)
    away = y - method.average(h).tanh()  # (K, N, 2)
    return torch.cat((h, y, away, h * away[..., :1], h * away[..., 1:]), -1)
