"""Weights as the authors' released code names them."""

import torch

from dsaml.experiment.model_files import RELEASED_NAMES
from dsaml.model.dsaml import DSAML


def released_state(model: DSAML) -> dict[str, torch.Tensor]:
    """Weights of a model of ours under the released code's names: the mapping, backwards."""
    state = {}
    for name, tensor in model.state_dict().items():
        if name.startswith("attention.layers."):
            name = name.replace("attention.layers.", "multi_scale_attention.encoder.encoder.layer.")
            inner = {
                "query": "attention.attention.query",
                "key": "attention.attention.key",
                "value": "attention.attention.value",
            }
            inner |= {
                "output": "attention.output.dense",
                "norm1": "attention.output.LayerNorm",
                "up": "intermediate.dense",
            }
            inner |= {"down": "output.dense", "norm2": "output.LayerNorm"}
            parts = name.split(".")
            if parts[-1] == "distance":
                name = ".".join([*parts[:-1], "attention.attention.distance_embedding.weight"])
            else:
                name = ".".join([*parts[:-2], inner[parts[-2]], parts[-1]])
        else:
            name = name.replace(".norm.", ".bn.")
            for theirs, ours in RELEASED_NAMES:
                if not ours.startswith(".") and name.startswith(ours):
                    name = name.replace(ours, theirs)
        state[name] = tensor
    return state
