"""A model's weights, counted."""

from __future__ import annotations

from torch import nn


def parameter_table(model: nn.Module) -> dict[str, int]:
    """Trainable parameters by part of Figure 2, and their sum under "total"."""
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    return parts | {"total": sum(parts.values())}
