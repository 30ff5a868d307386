"""What the page "The method, line by line" shows beside the package's listings: shapes, read off the model, and every setting.

What the paper states and what the released code has stands in ``data/hyperparameters.json``; names, values and explanations are
the package's own.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import json
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from book.builder import markdown
from dsaml.audio.slices import log_mel
from dsaml.config import CLIP_STEPS, DEMO, PAPER
from dsaml.learn.losses import diagonal_attention_loss, total_loss
from dsaml.learn.maml import Batch, forward_tasks, stack
from dsaml.model.dsaml import DSAML, Output, band_mask

SONGS = 2  # B of the shapes
GROUPS = {"audio": "Input preprocessor", "model": "Model", "meta": "Meta-training", "supervised": "Training without MAML"}
"""Fields of a profile whose settings are shown, one table each."""
SILENT = "–"


def _arrows(*steps: tuple[str, Any]) -> str:
    """Names with their shapes, in the order in which they come about."""
    shown = [f"{name} `{tuple(x.shape) if isinstance(x, Tensor) else tuple(x)}`" for name, x in steps]
    return "*Shapes:* " + " → ".join(shown)


def _traced(model: DSAML, x: Tensor, z_g: Tensor) -> tuple[Output, dict[str, Tensor]]:
    """What a model returns, and what each part of it does, by its name and in the order of the calls."""
    made: dict[str, Tensor] = {}
    hooks = [
        part.register_forward_hook(
            lambda part, given, out, name=name: made.update({name: out[0] if isinstance(out, tuple) else out})
        )
        for name, part in model.named_modules()
    ]
    output = model(x, z_g)
    for hook in hooks:
        hook.remove()
    return output, made


def shapes() -> dict[str, str]:
    """Every line of shapes by its name, from a forward pass of the paper's model without numbers (torch's device "meta")."""
    audio, config, meta, steps = PAPER.audio, PAPER.model, PAPER.meta, CLIP_STEPS
    cut = torch.zeros(steps, round(audio.step_seconds * audio.sample_rate))
    with torch.device("meta"):
        model = DSAML(config).eval()
        x, z_g = torch.empty(SONGS, steps, *config.slice_shape), torch.empty(SONGS, 1, config.dim)
        output, made = _traced(model, x, z_g)
        query = Batch(*(torch.empty(1, meta.query_songs, *part.shape[1:]) for part in (x, z_g, output.prediction)))
        weights = stack(model, meta.adapt, 1)
        personal = forward_tasks(model, weights, query)
        loss = total_loss(personal, query.target, meta.loss, config)
    maps, name = output.attention_local, "predictor.output.weight"

    def parts(room: str, *names: str) -> list[tuple[str, Tensor]]:
        return [(f"`{part}`", made[f"{room}.{part}"]) for part in names]

    return {
        "audio": _arrows(("slices", cut), ("x′", log_mel(cut, audio))),
        "adapter": _arrows(("x′", x), *parts("adapter", "block1", "block2", "conv1x1", "linear")),
        "mask": _arrows(("M", band_mask(steps, config.context_local))),
        "attention": _arrows(
            ("z", made["adapter"]),
            *parts("attention", *(f"layers.{k}" for k in range(config.layers))),
            ("z′", output.context),
        )
        + f"; maps `{tuple(maps.shape)}` for each scale: songs, layers, heads, from step, to step",
        "predictor": _arrows(("z′", output.context), *parts("predictor", "lstm", "hidden", "output")),
        "model": _arrows(("x′", x), ("z", made["adapter"]), ("z′", output.context), ("prediction", output.prediction))
        + f", with z_g `{tuple(z_g.shape)}`",
        "loss": _arrows(("maps", maps), ("loss", diagonal_attention_loss(output, config.alpha, config.beta))),
        "maml": _arrows(("query x′", query.x), ("prediction", personal.prediction), ("loss", loss))
        + f", with weights such as `{name}` `{tuple(weights[name].shape)}`",
    }


def comments(cls: type) -> dict[str, str]:
    """The comment of each field of a configuration class, its bases' first."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        source = inspect.getsource(base)
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        said = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
        for node in ast.parse(source).body[0].body:
            if isinstance(node, ast.AnnAssign):
                lines = range(node.lineno, node.end_lineno + 1)
                found[node.target.id] = " ".join(said[line] for line in lines if line in said)
    return found


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return " × ".join(map(str, value))
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`" if isinstance(value, str) else str(value)


def _rows(group: str, paper: Mapping[str, Any], released: Mapping[str, Any]) -> Iterator[list[str]]:
    ours, demo = getattr(PAPER, group), getattr(DEMO, group)
    explained = comments(type(ours))
    for field in dataclasses.fields(ours):
        name = f"{group}.{field.name}"
        theirs = [_value(stated[name]) if name in stated else SILENT for stated in (paper, released)]
        mine = [_value(getattr(profile, field.name)) for profile in (ours, demo)]
        yield [f"`{field.name}`", explained[field.name].replace("|", "or"), *theirs, *mine]


def facts(data: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the paper states and what the released code has, by "group.field"."""
    document = json.loads((data / "hyperparameters.json").read_text(encoding="utf-8"))
    return document["paper"], document["released"]


def settings(data: Path) -> str:
    """Every setting: paper, released code, and both profiles of this book."""
    header = ("setting", "what it is", "paper", "released code", "here: `paper`", "here: `demo`")
    rows = {title: list(_rows(group, *facts(data))) for group, title in GROUPS.items()}
    return "\n\n".join(f"**{title}**\n\n{markdown.table(header, own, numbers=False)}" for title, own in rows.items())


def text(name: str, data: Path) -> str:
    """The table of settings ("settings") or one line of shapes ("shapes-adapter")."""
    return settings(data) if name == "settings" else shapes()[name.removeprefix("shapes-")]
