"""What the commands train and evaluate do: one model, any data set with annotator tracks."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from dsaml.audio.encoders import make_encoder
from dsaml.config import DIMENSIONS, get_profile
from dsaml.errors import DsamlError
from dsaml.evaluate import bootstrap, protocols
from dsaml.evaluate.oracles import best_spread
from dsaml.evaluate.selection import select_inner
from dsaml.experiment import recipes
from dsaml.experiment.model_files import load_model, save_model
from dsaml.experiment.prepare import check_data, prepare
from dsaml.experiment.results import provenance, write_result
from dsaml.learn.loop import TrainingOptions
from dsaml.learn.training import cross_song_tasks
from dsaml.runtime.devices import choose_device
from dsaml.runtime.distributed import processes, ranks

MODELS = {"dmer": recipes.NON_META, "pdmer": recipes.MAML_ANNOTATOR}


def train(
    dataset: str,
    root: Path,
    out: Path,
    profile_name: str,
    mode: str,
    seed: int,
    cache: Path,
    imagebind: Path | None,
    options: TrainingOptions | None = None,
    accept: Iterable[str] = (),
) -> float:
    """Train (or finish training) a model and export it; returns its best validation CCC.

    Under ``torchrun`` every process calls this; the first one writes.

    Raises
    ------
    DsamlError
        If ``check`` finds an error of a kind that is not in ``accept``, anything would stop training (told before its first
        step), or training stops (see :func:`dsaml.learn.loop.fit`).
    """
    profile, started = get_profile(profile_name), time.perf_counter()
    options = options or TrainingOptions(resume=True)
    if out.suffix != ".safetensors":
        raise DsamlError(f"{out}: a model file ends in .safetensors; change --out")
    chosen = choose_device(options.device)
    check_data(dataset, root, profile, mode, cache, accept)
    with processes(chosen) as device:
        options = dataclasses.replace(options, device=device)
        experiment = prepare(profile, cache, dataset, root, make_encoder(profile, imagebind))
        experiment, profile = dataclasses.replace(experiment, options=options), experiment.profile
        model, history = experiment.model(MODELS[mode], seed)
        if ranks()[0] == 0:
            seconds = time.perf_counter() - started
            stamp = provenance(profile, experiment.dataset, seeds=[seed], seconds=seconds, device=device)
            save_model(out, model.cpu(), profile, stamp)
    return max(score for _, score in history.validation)


def evaluate(
    checkpoint: Path, dataset: str, root: Path, out: Path, cache: Path, imagebind: Path | None
) -> dict[str, Any]:
    """Cross-song PDMER scores of one model on the test part, beside floors and oracles; written to ``out``.

    Raises
    ------
    DsamlError
        If the data set has no test annotators with enough songs.
    """
    model, profile, about = load_model(checkpoint)
    started, name = time.perf_counter(), checkpoint.stem
    experiment = prepare(profile, cache, dataset, root, make_encoder(profile, imagebind))
    store = experiment.store
    if not cross_song_tasks(store, "test", protocols.SUPPORTS):
        raise DsamlError(f"{root}: no test annotators, so PDMER cannot be scored; 'floors' needs averaged labels only")
    config, grid = select_inner(store, model, profile.meta)
    plain = dataclasses.replace(config, inner_steps=0)
    scores = pd.concat(
        [
            *protocols.fixed_rows(store, "cross-song"),
            protocols.cross_song(store, model, plain, f"{name}, not adapted", 0),  # one model: one seed
            protocols.cross_song(store, model, config, name, 0),
        ],
        ignore_index=True,
    )
    payload = bootstrap.summarize_against(scores, name) | {
        "selection": {"inner_lr": config.inner_lr, "inner_steps": config.inner_steps, "grid": grid},
        "spread": best_spread(experiment.dataset),
        "model": about,
    }
    seconds = time.perf_counter() - started
    write_result(out, payload, provenance(profile, experiment.dataset, seeds=about.get("seeds", []), seconds=seconds))
    return payload


def terminal_table(payload: Mapping[str, Any], title: str = "PDMER, one support song") -> Table:
    """Rows of a result as a table for the terminal: CCC with interval, PCC, RMSE, per dimension."""
    out = Table(title=f"{title}: CCC [95 % interval], PCC, RMSE")
    for column in ("", *(f"{d} {m}" for d in DIMENSIONS for m in ("CCC", "PCC", "RMSE"))):
        out.add_column(column, justify="right" if column else "left")
    for name, row in payload["rows"].items():
        cells = []
        for d in DIMENSIONS:
            cells.append("{mean:.3f} [{low:.3f}, {high:.3f}]".format(**row[d]["ccc"]))
            cells += [f"{row[d][m]['mean']:.3f}" for m in ("pcc", "rmse")]
        out.add_row(name, *cells)
    return out
