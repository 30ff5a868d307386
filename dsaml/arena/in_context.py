"""The support set as a prompt: a transformer looks up what the listener said where the music was alike."""

from __future__ import annotations

from torch import Tensor, nn

from dsaml.arena.base import Personalizer, Prediction, State, flat, told

HEADS, LAYERS = 4, 2


class CrossAttention(nn.Module):
    """Queries (K, M, H) look at a prompt (K, N, H); pre-LN."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, HEADS, batch_first=True)
        self.forward_part = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, prompt: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x), prompt, prompt, need_weights=False)[0]
        return x + self.forward_part(self.norm2(x))


class InContext(Personalizer):
    """Query frames attend to support frames, each of which carries its label; nothing is fitted at test."""

    name, source = "transformer in context", "Garg et al. 2022; attentive neural process (Kim et al. 2019)"

    def __init__(self, *args):
        super().__init__(*args)
        width = self.config.width
        self.tokens = nn.Linear(3 * width + 4, width)
        self.layers = nn.ModuleList(CrossAttention(width) for _ in range(LAYERS))
        self.out = nn.Linear(width, 2)

    def adapt(self, h: Tensor, y: Tensor) -> State:
        return {"prompt": self.tokens(told(self, h, y))}  # (K, N, H)

    def predict(self, state: State, h: Tensor) -> Prediction:
        x = flat(h)  # (K, B T, H)
        for layer in self.layers:
            x = layer(x, state["prompt"])
        return Prediction((self.average(h) + self.out(x).unflatten(1, h.shape[1:3])).tanh())
