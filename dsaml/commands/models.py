"""Commands for models: train, evaluate, predict, personalize, reproduce, grid, parameters."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from dsaml.commands.common import (
    SEEDS,
    DatasetName,
    DatasetOption,
    ForceOption,
    Mode,
    ProfileOption,
    RootOption,
    console,
)
from dsaml.errors import DsamlError

app = typer.Typer()


CheckpointOption = Annotated[
    Path, typer.Option("--checkpoint", help="A model (.safetensors) that train or personalize wrote.")
]
ImagebindOption = Annotated[
    Path | None, typer.Option("--imagebind", help="ImageBind weights, where the model needs them.")
]


@app.command()
def train(
    dataset: DatasetOption,
    root: RootOption,
    out: Annotated[Path, typer.Option("--out", help="The trained model (.safetensors).")],
    profile: ProfileOption = "demo",
    mode: Annotated[
        Mode, typer.Option("--mode", help="dmer: averaged labels. pdmer: MAML on annotator tasks (Eq. 6).")
    ] = Mode.pdmer,
    seed: Annotated[int, typer.Option("--seed", help="Of weights, batches and dropout.", **SEEDS)] = 0,
    cache: Annotated[Path, typer.Option("--cache", help="Features and checkpoints.")] = Path("cache"),
    imagebind: ImagebindOption = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on from the last checkpoint, or start anew.")
    ] = True,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, mps.")] = "auto",
    precision: Annotated[
        str, typer.Option("--precision", help="Of matrix products: float32, tf32 (GPU), bf16 (autocast).")
    ] = "float32",
    save_every: Annotated[int, typer.Option("--save-every", help="Steps between checkpoints.", min=1)] = 50,
    logs: Annotated[Path | None, typer.Option("--logs", help="Folder of TensorBoard event files.")] = None,
    force: ForceOption = False,
    accept: Annotated[
        list[str] | None,
        typer.Option("--accept", help="Train in spite of one kind of error; check names it in [ ]. Can be repeated."),
    ] = None,
) -> None:
    """Train DSAML and write one model file; stopped at any time, the same command goes on where it was.

    What check calls an error stops it before any work.

    Several processes or machines: torchrun --nproc-per-node 2 -m dsaml train … (mode pdmer).
    """
    from dsaml.loop import Run
    from dsaml.outputs import check_folder, check_output, holds_model
    from dsaml.workflow import train as run_train

    check_output(out, holds_model, (root, imagebind), force=force)
    for folder in (cache, logs) if logs else (cache,):
        check_folder(folder)
    run = Run(resume=resume, save_every=save_every, logs=logs, device=device, precision=precision)
    best = run_train(dataset.value, root, out, profile, mode.value, seed, cache, imagebind, run, accept or ())
    console.print(f"{out}: best validation CCC {best:.3f}", soft_wrap=True, highlight=False)


@app.command()
def evaluate(
    checkpoint: CheckpointOption,
    dataset: DatasetOption,
    root: RootOption,
    out: Annotated[Path, typer.Option("--out", help="The result file (JSON).")],
    cache: Annotated[Path, typer.Option("--cache", help="Features.")] = Path("cache"),
    imagebind: ImagebindOption = None,
    force: ForceOption = False,
) -> None:
    """Score a model on unseen annotators and songs (PDMER, cross-song), beside the floors, with intervals."""
    from dsaml.outputs import check_folder, check_output, holds_result
    from dsaml.workflow import evaluate as run_evaluate
    from dsaml.workflow import table

    check_output(out, holds_result, (checkpoint, root, imagebind), force=force)
    check_folder(cache)
    console.print(table(run_evaluate(checkpoint, dataset.value, root, out, cache, imagebind)))
    console.print(str(out), soft_wrap=True, highlight=False)


@app.command()
def predict(
    song: Annotated[Path, typer.Argument(help="MP3, WAV, FLAC or OGG.")],
    checkpoint: CheckpointOption,
    out: Annotated[Path, typer.Option("--out", help="CSV: time_s (s), arousal, valence, every 0.5 s.")],
    start: Annotated[float, typer.Option("--start", help="First predicted second.")] = 0.0,
    imagebind: ImagebindOption = None,
    force: ForceOption = False,
) -> None:
    """Predict the arousal and valence of a song at 2 Hz."""
    from dsaml.outputs import check_output, holds_prediction
    from dsaml.personal import predict_file, write_curve
    from dsaml.workflow import encoder_factory

    check_output(out, holds_prediction, (song, checkpoint, imagebind), force=force)
    curve = predict_file(song, checkpoint, encoder_factory(imagebind), start)
    write_curve(out, curve)
    console.print(f"{out}: {len(curve)} steps", soft_wrap=True, highlight=False)


@app.command()
def personalize(
    song: Annotated[Path, typer.Option("--song", help="The song that the person annotated.")],
    curve: Annotated[Path, typer.Option("--curve", help="CSV: time_s (s), arousal, valence in [-1, 1]; any rate.")],
    checkpoint: CheckpointOption,
    out: Annotated[Path, typer.Option("--out", help="The personal model (.safetensors).")],
    largest_gap: Annotated[
        float, typer.Option("--largest-gap", help="Between two points of the curve, s.", min=0.5)
    ] = 2.0,
    imagebind: ImagebindOption = None,
    force: ForceOption = False,
) -> None:
    """Make a model one's own from one annotated song; then use it with predict."""
    from dsaml.outputs import check_output, holds_model
    from dsaml.personal import personalize_file
    from dsaml.workflow import encoder_factory

    check_output(out, holds_model, (song, curve, checkpoint, imagebind), force=force)
    done = personalize_file(song, curve, checkpoint, out, encoder_factory(imagebind), largest_gap)
    text = f"{out}: {done['steps']} steps; RMSE on this song {done['before']:.3f} before, {done['after']:.3f} after"
    console.print(text, soft_wrap=True, highlight=False)


class What(str, Enum):
    """What can be reproduced."""

    all = "all"
    book = "book"
    table1 = "table1"
    table2 = "table2"
    table3 = "table3"
    table4 = "table4"
    stress = "stress"


@app.command()
def reproduce(
    what: Annotated[
        What, typer.Argument(help="all; a table of the paper; book: what its pages show; stress: a harder population.")
    ] = What.all,
    profile: ProfileOption = "demo",
    dataset: Annotated[
        DatasetName, typer.Option("--dataset", help="Which data set lies under --root.")
    ] = DatasetName.synthetic,
    root: Annotated[
        Path | None, typer.Option("--root", help="The data set's own folder; the embedded corpus needs none.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Training seeds 0, 1, …", min=1, max=1000)] = 3,
    results: Annotated[
        Path | None, typer.Option("--results", help="Folder of the result files; results/PROFILE by default.")
    ] = None,
    cache: Annotated[Path, typer.Option("--cache", help="Corpus, features, checkpoints, scores.")] = Path("cache"),
    imagebind: ImagebindOption = None,
) -> None:
    """From data to the paper's tables and the claims, with several seeds; stopped, it goes on where it was.

    On 2 cores and the embedded corpus, estimated: all about 90 minutes, book 25, stress 15. Then: book --no-compute.
    """
    from dsaml import tables
    from dsaml.config import get_profile
    from dsaml.encoders import make_encoder
    from dsaml.outputs import check_folder, check_results
    from dsaml.prepare import prepare
    from dsaml.reproduce import demo_results, stress_results
    from dsaml.results import read_result
    from dsaml.scoring import train_for
    from dsaml.workflow import table

    settings = get_profile(profile)
    folder = results or Path("results") / profile
    if dataset not in (DatasetName.synthetic, DatasetName.stress) and root is None:
        raise DsamlError(f"--root is missing: the folder of {dataset.value}")
    if dataset is not DatasetName.synthetic and what in (What.book, What.stress):
        raise DsamlError(f"{what.value}: is about embedded corpora, not {dataset.value}; ask for all, or for one table")
    check_results(folder)
    check_folder(cache)
    wanted = ["table1", "table2", "table3", "table4"] if what is What.all else [what.value]
    jobs = tables.jobs_of(wanted, range(seeds)) if what not in (What.book, What.stress) else None
    if what in (What.all, What.book) and dataset is DatasetName.synthetic:
        demo_results(settings, folder, cache, tuple(range(seeds)), jobs)
        console.print(table(read_result(folder / "pdmer.json")))
    elif what is not What.stress:
        experiment = prepare(settings, cache, dataset.value, root, make_encoder(settings, imagebind))
        if not experiment.dataset.tracks:  # labels of single annotators are not in every data set
            wanted = [name for name in wanted if name in ("table1", "table3")]
            jobs = tables.jobs_of(wanted, range(seeds))
        if not wanted:
            raise DsamlError(
                f"{dataset.value} has no labels of single annotators, so {what.value} cannot be computed on it"
            )
        train_for(experiment, jobs)
        tables.compute(experiment, jobs, folder)
    if what is What.stress or (what is What.all and dataset is DatasetName.synthetic):
        stress_results(settings, folder, cache, tuple(range(seeds)))
    shown = [] if what is What.book else ["stress"] if what is What.stress else [dataset.value]
    for data in shown + ["stress"] * (what is What.all and dataset is DatasetName.synthetic):
        payload = read_result(folder / f"tables-{data}.json")
        for name, block in payload["blocks"].items():
            if block["rows"] and name != "figure4":  # distances, not scores
                console.print(table(block, f"{name} ({data}): CCC [95 % interval], PCC, RMSE"))


class Variant(str, Enum):
    """The paper's model, or that of the released code."""

    paper = "paper"
    released = "released"


@app.command()
def parameters(
    profile: ProfileOption = "paper",
    variant: Annotated[
        Variant, typer.Option("--variant", help="released: linear layer after fusion, relative positions.")
    ] = Variant.paper,
) -> None:
    """Count the model's trainable parameters by part of Figure 2."""
    from dsaml import config
    from dsaml.model import DSAML, parameter_table

    settings = config.get_profile(profile).model
    model = DSAML(config.released(settings) if variant is Variant.released else settings)
    for part, count in parameter_table(model).items():
        typer.echo(f"{part:12}{count:>14,}")


@app.command()
def grid(
    file: Annotated[Path, typer.Argument(help="YAML: datasets (name, root), profiles, modes, seeds.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of models and result files.")] = Path("results/grid"),
    cache: Annotated[Path, typer.Option("--cache", help="Features and checkpoints.")] = Path("cache"),
    jobs: Annotated[int, typer.Option("--jobs", help="Runs at a time on this machine, one core each.", min=1)] = 2,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Dask scheduler instead: tcp://host:8786.")
    ] = None,
) -> None:
    """Train and score every combination; what has its result file already is not repeated."""
    from rich.table import Table

    from dsaml.grid import as_rows, read_grid, run_grid
    from dsaml.outputs import check_folder, check_output, holds_model, holds_result
    from dsaml.progress import counter

    runs = read_grid(file)
    for run in runs:
        check_output(out / f"{run.name}.safetensors", holds_model, (file, run.root, run.imagebind))
        check_output(out / f"{run.name}.json", holds_result, (file, run.root, run.imagebind))
    check_folder(cache)
    with counter("grid", "run") as progress:
        failed = run_grid(runs, out, cache, jobs, scheduler, progress=progress)
    rows = as_rows(runs, out)
    if rows:
        table = Table(title="CCC on the test listeners")
        shown = ("dataset", "profile", "mode", "seed", "arousal", "valence")
        for column in shown:
            table.add_column(column)
        for row in rows:
            table.add_row(*(f"{row[key]:.3f}" if isinstance(row[key], float) else str(row[key]) for key in shown))
        console.print(table)
    if failed:
        raise DsamlError(
            f"{len(failed)} of {len(runs)} runs failed, first {next(iter(failed))}: {next(iter(failed.values()))}; the "
            "others are kept, and the same command tries these again"
        )
