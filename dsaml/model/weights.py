"""A model's weights: loaded with one sentence about what does not fit, and counted."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from dsaml.errors import DsamlError

SHOWN = 20  # weights named in one message


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """``load_state_dict`` with one sentence that counts missing, unknown and mis-shaped weights and lists the first.

    On the device "meta" they are only compared.

    Raises
    ------
    DsamlError
        If anything does not fit; the model is then unchanged.
    """
    own = model.state_dict()
    problems = [f"missing {name}" for name in own if name not in weights]
    problems += [f"unknown {name}" for name in weights if name not in own]
    problems += [
        f"{name} is {tuple(weights[name].shape)}, want {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DsamlError(f"{source}: does not fit this model: {'; '.join(problems[:SHOWN])}{more}")
    if next(model.parameters()).device.type != "meta":
        model.load_state_dict(dict(weights))


def parameter_table(model: nn.Module) -> dict[str, int]:
    """Trainable parameters by part of Figure 2, and their sum under "total"."""
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    return parts | {"total": sum(parts.values())}
