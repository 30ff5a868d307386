"""What the commands train and evaluate do: one model, any data set with annotator tracks."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from dsaml.config import DIMENSIONS, PAPER, Profile, adjusted
from dsaml.errors import DsamlError
from dsaml.evaluate import bootstrap, protocols
from dsaml.evaluate.oracles import best_spread
from dsaml.evaluate.selection import select_inner
from dsaml.experiment import recipes
from dsaml.experiment.model_files import load_model, save_model
from dsaml.experiment.prepare import Source, TaskSongs, check_data, prepare
from dsaml.experiment.progress import counter
from dsaml.experiment.released import load_released, read_released
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
        step), or training stops (see :func:`dsaml.learn.loop.fit`). ``task_songs``: see
        :func:`dsaml.experiment.prepare.with_task_songs`.
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
    checkpoint : path
        A model file.
    source : Source
        What it is scored on.
    out : Path
        The result file.
    protocol : {"cross-song", "prefix", "dmer"}
        One of :data:`dsaml.evaluate.protocols.PROTOCOLS`.
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
    started, name, device = time.perf_counter(), checkpoint.stem, source.device
    experiment = prepare(profile, source)
    store, windows = experiment.store, {"released": released_windows}
    if protocol != "dmer":
        _check_people(store, protocol, experiment.dataset.root)
    scores, chosen = protocols.fixed_rows(store, protocol), None
    if protocol == "dmer":
        scores.append(protocols.dmer(store, experiment.features, model.to(device), name, 0, **windows))  # one model: one seed
    else:
        with counter("choosing the inner loop", "task") as progress:
            config, grid = select_inner(store, model.to(device), profile.meta, progress=progress)
        chosen = {"inner_lr": config.inner_lr, "inner_steps": config.inner_steps, "grid": grid}
        for label, own in ((f"{name}, not adapted", dataclasses.replace(config, inner_steps=0)), (name, config)):
            if protocol == "cross-song":
                with counter(label, "task") as progress:
                    scores.append(protocols.cross_song(store, model, own, label, 0, progress=progress))
            else:
                with counter(label, "curve") as progress:
                    scores.append(
                        protocols.prefix(store, experiment.features, model, own, label, 0, **windows, progress=progress)
                    )
    table = pd.concat(scores, ignore_index=True)
    if protocol == "dmer":  # one curve for each song: songs are what is resampled
        table = table.assign(annotator=table.song, song="")
    payload = bootstrap.summarize_against(table, name) | {
        "protocol": dataclasses.asdict(protocols.PROTOCOLS[protocol]),
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


def import_released(checkpoint: Path, out: Path, encoder: str) -> Profile:
    """Write a checkpoint of the authors' released code as a model file; gives the profile that stands in it.

    The profile is the paper's with the ``released`` variant, and the sizes that the checkpoint has.

    Raises
    ------
    DsamlError
        See ``read_released`` and ``load_released`` in :mod:`dsaml.experiment.released`; or if ``out`` does not end in
        ``.safetensors``.
    """
    if out.suffix != ".safetensors":
        raise DsamlError(f"{out}: a model file ends in .safetensors; choose another name")
    weights = read_released(checkpoint)
    try:
        model = load_released(weights)
    except DsamlError as error:
        raise DsamlError(f"{checkpoint}: {error}") from error
    profile = dataclasses.replace(adjusted(PAPER, encoder, "released"), model=model.config)
    about = {"released_checkpoint": checkpoint.name, "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest()}
    save_model(out, model, profile, about)
    return profile


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
