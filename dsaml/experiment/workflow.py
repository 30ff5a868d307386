"""What the commands train and evaluate do: one model, any data set with annotator tracks."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Column, Table

from dsaml.config import DIMENSIONS, Profile
from dsaml.errors import DsamlError
from dsaml.evaluate import bootstrap, protocols
from dsaml.evaluate.floors import best_spread
from dsaml.experiment import recipes
from dsaml.experiment.model_files import load_model, save_model
from dsaml.experiment.prepare import Source, TaskSongs, check_data, prepare
from dsaml.experiment.progress import counter
from dsaml.experiment.results import stamp_of, write_result
from dsaml.learn.batches import SongStore
from dsaml.learn.loop import TrainingOptions
from dsaml.learn.training import cross_song_tasks
from dsaml.runtime.distributed import processes, ranks

MODELS = {"dmer": recipes.NON_META, "pdmer": recipes.MAML_ANNOTATOR}


def train(
    profile: Profile,
    source: Source,
    out: Path,
    mode: str,
    seed: int,
    options: TrainingOptions = TrainingOptions(resume=True),
    task_songs: TaskSongs = (None, None),
) -> float:
    """Train (or finish training) a model on the source's device and export it; returns its best validation CCC.

    Under ``torchrun`` every process calls this; the first one writes.

    Raises
    ------
    DsamlError
        If ``check`` finds an error of a kind that is not accepted, anything would stop training (told before its first
        step), or training stops (:func:`dsaml.learn.loop.fit`); or see :func:`dsaml.experiment.prepare.with_task_songs`.
    """
    started = time.perf_counter()
    if out.suffix != ".safetensors":
        raise DsamlError(f"{out}: a model file ends in .safetensors; change --out")
    check_data(profile, source, mode)
    with processes(source.device) as device:
        wanted = task_songs if mode == "pdmer" else None
        experiment = prepare(profile, dataclasses.replace(source, device=device), wanted)
        experiment = dataclasses.replace(experiment, options=dataclasses.replace(options, device=device))
        model, history = experiment.model(MODELS[mode], seed)
        if ranks()[0] == 0:
            save_model(out, model.cpu(), experiment.profile, stamp_of(experiment, [seed], started))
    return max(score for _, score in history.validation)


def evaluate(
    checkpoint: Path, source: Source, out: Path, protocol: str = "cross-song", released_windows: bool = False
) -> dict[str, Any]:
    """Scores of one model on the test part under one protocol, beside floors and oracles; written to ``out``.

    Parameters
    ----------
    protocol : {"cross-song", "prefix", "dmer"}
        See :data:`dsaml.evaluate.protocols.PROTOCOLS`.
    released_windows : bool
        Full songs through the released code's windows: more of them, and arousal's one step late.

    Raises
    ------
    DsamlError
        If the data set has nobody that the protocol asks, or windows are wanted where every song is one.
    """
    if released_windows and protocol == "cross-song":
        raise DsamlError("cross-song: every song counts with one window; --released-windows goes with prefix or dmer")
    model, profile, about = load_model(checkpoint)
    started, name = time.perf_counter(), checkpoint.stem
    experiment = prepare(profile, source)
    store, features, model = experiment.store, experiment.features, model.to(source.device)
    if protocol != "dmer":
        _check_people(store, protocol, experiment.dataset.root)
    scores, chosen = protocols.fixed_rows(store, protocol), None
    if protocol == "dmer":
        scores.append(protocols.dmer(store, features, model, name, 0, released=released_windows))  # one model: one seed
    else:
        with counter("choosing the inner loop", "task") as progress:
            config, chosen = protocols.select_inner(store, model, profile.meta, progress=progress)
        unit, score = "task", partial(protocols.cross_song, store)
        if protocol == "prefix":
            unit, score = "curve", partial(protocols.prefix, store, features, released=released_windows)
        for label, own in ((f"{name}, not adapted", dataclasses.replace(config, inner_steps=0)), (name, config)):
            with counter(label, unit) as progress:
                scores.append(score(model, own, label, 0, progress=progress))
    table = pd.concat(scores, ignore_index=True)
    if protocol == "dmer":  # one curve for each song: songs are what is resampled
        table = table.assign(annotator=table.song, song="")
    payload = bootstrap.summarize_against(table, name) | {
        "protocol": {"name": protocol, **protocols.PROTOCOLS[protocol]},
        "released_windows": released_windows,
        "selection": chosen,
        "spread": best_spread(experiment.dataset),
        "model": about,
    }
    write_result(out, payload, stamp_of(dataclasses.replace(experiment, profile=profile), about.get("seeds", []), started))
    return payload


def _check_people(store: SongStore, protocol: str, root: Path) -> None:
    """Refuse a data set on which a protocol has nobody to ask."""
    if not cross_song_tasks(store, "test", protocols.SUPPORTS):
        raise DsamlError(f"{root}: no test annotators, so PDMER cannot be scored; 'floors' needs averaged labels only")
    if not cross_song_tasks(store, "validation", 1):
        raise DsamlError(f"{root}: no validation annotator rated two songs, so no inner loop can be chosen; change the split")
    if protocol == "prefix" and not protocols.prefix_questions(store):
        steps = protocols.prefix_steps(store)
        raise DsamlError(f"{root}: no test song is longer than {steps} labels, so none has a rest; use cross-song")


def terminal_table(payload: Mapping[str, Any], title: str = "PDMER, one support song") -> Table:
    """Rows of a result as a table for the terminal: CCC with interval, PCC, RMSE, per dimension."""
    columns = [Column(f"{d} {m}", justify="right") for d in DIMENSIONS for m in ("CCC", "PCC", "RMSE")]
    out = Table("", *columns, title=f"{title}: CCC [95 % interval], PCC, RMSE")
    for name, row in payload["rows"].items():
        cells = []
        for d in DIMENSIONS:
            cells.append("{mean:.3f} [{low:.3f}, {high:.3f}]".format(**row[d]["ccc"]))
            cells += [f"{row[d][m]['mean']:.3f}" for m in ("pcc", "rmse")]
        out.add_row(name, *cells)
    return out
