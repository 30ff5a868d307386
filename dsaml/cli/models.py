"""Commands for models: train, evaluate, reproduce, arena, listeners, parameters, grid, import-released."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from dsaml.cli import common
from dsaml.cli.outputs import check_folder, check_output, check_results, holds_model, holds_result
from dsaml.cli.repository import in_repository
from dsaml.config import get_profile
from dsaml.errors import DsamlError

app = typer.Typer()
What = StrEnum("What", ["all", "book", "table1", "table2", "table3", "table4", "stress"])
"""What ``reproduce`` makes."""

SeedsOption = Annotated[int, typer.Option(help="Training seeds 0, 1, …", min=1, max=1000)]


@app.command()
def train(
    dataset: common.DatasetOption,
    root: common.RootOption,
    out: Annotated[Path, typer.Option(help="The trained model (.safetensors).")],
    profile: common.ProfileOption = "demo",
    mode: Annotated[common.Mode, typer.Option(help="dmer: averaged labels. pdmer: MAML on annotator tasks (Eq. 6).")] = "pdmer",
    model: Annotated[
        Literal["dsaml", "low-rank"],
        typer.Option(help="dsaml, or the arena's light winner: a listener in closed form, trained in a minute."),
    ] = "dsaml",
    seed: Annotated[int, typer.Option(help="Of weights, batches and dropout.", **common.SEEDS)] = 0,
    cache: common.CacheOption = Path("cache"),
    imagebind: common.ImagebindOption = None,
    encoder: common.EncoderOption = None,
    variant: common.VariantOption = "paper",
    steps: common.StepsOption = None,
    support_songs: common.SupportSongsOption = None,
    query_songs: common.QuerySongsOption = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Go on from the last checkpoint, or start anew.")] = True,
    device: common.DeviceOption = "auto",
    precision: Annotated[str, typer.Option(help="Of matrix products: float32, tf32 (GPU), bf16 (autocast).")] = "float32",
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.", min=1)] = 50,
    logs: Annotated[Path | None, typer.Option(help="Folder of TensorBoard event files.")] = None,
    force: common.ForceOption = False,
    accept: common.AcceptOption = None,
) -> None:
    """Train DSAML and write one model file; stopped at any time, the same command goes on where it was.

    What check calls an error stops it before any work.

    Several processes or machines: torchrun --nproc-per-node 2 -m dsaml train … (mode pdmer).
    """
    from dsaml.experiment import workflow
    from dsaml.learn.loop import TrainingOptions
    from dsaml.listen.light import train_on
    from dsaml.listen.origin import belief

    settings = common.chosen_profile(profile, encoder, variant, steps)
    check_output(out, holds_model, (root, imagebind), force=force)
    if logs:
        check_folder(logs)
    source = common.source_of(dataset, root, cache, imagebind, accept, device)
    if model == "low-rank":
        light = train_on(settings, source, seed)
        light.save(out)
        typer.echo(f"{out}: best validation CCC {light.about['validation_ccc']:.3f}")
        if said := belief(light.about):
            typer.echo(said)
        return
    options = TrainingOptions(resume=resume, save_every=save_every, logs=logs, precision=precision)
    best = workflow.train(settings, source, out, mode, seed, options, (support_songs, query_songs))
    typer.echo(f"{out}: best validation CCC {best:.3f}")


@app.command()
def evaluate(
    checkpoint: common.CheckpointOption,
    dataset: common.DatasetOption,
    root: common.RootOption,
    out: Annotated[Path, typer.Option(help="The result file (JSON).")],
    cache: Annotated[Path, typer.Option(help="Features.")] = Path("cache"),
    imagebind: common.ImagebindOption = None,
    protocol: Annotated[
        Literal["cross-song", "prefix", "dmer"],
        typer.Option(help="Given: another song of the listener; the song's own first 30 s, as the released code; or nothing."),
    ] = "cross-song",
    released_windows: Annotated[
        bool, typer.Option("--released-windows", help="Full songs through the released code's windows; ten times the work.")
    ] = False,
    device: common.DeviceOption = "auto",
    force: common.ForceOption = False,
) -> None:
    """Score a model on unseen annotators and songs, beside the floors, with intervals."""
    from dsaml.experiment import workflow

    check_output(out, holds_result, (checkpoint, root, imagebind), force=force)
    source = common.source_of(dataset, root, cache, imagebind, device=device)
    done = workflow.evaluate(checkpoint, source, out, protocol, released_windows)
    common.console.print(workflow.terminal_table(done, f"{checkpoint.stem}, {protocol}"))
    typer.echo(out)


@app.command()
def reproduce(
    what: Annotated[
        list[What] | None,
        typer.Argument(help="all (the default); tables of the paper; book: what its pages show; stress: a harder population."),
    ] = None,
    profile: common.ProfileOption = "demo",
    dataset: common.DatasetOption = "synthetic",
    root: common.OwnRootOption = None,
    seeds: SeedsOption = 3,
    results: Annotated[Path | None, typer.Option(help="Folder of the result files, by default one under results.")] = None,
    cache: Annotated[Path, typer.Option(help="Corpus, features, checkpoints, scores.")] = Path("cache"),
    imagebind: common.ImagebindOption = None,
    encoder: common.EncoderOption = None,
    variant: common.VariantOption = "paper",
    steps: common.StepsOption = None,
    device: common.DeviceOption = "auto",
    accept: common.AcceptOption = None,
    update: Annotated[
        bool, typer.Option("--update", help="Then make the results the repository's reference run of this name.")
    ] = False,
) -> None:
    """From data to the paper's tables and the claims, with several seeds; stopped, it goes on where it was.

    What check calls an error of your own data stops it before any work. Every profile, data set, encoder and variant has its
    own folder of results, and book --no-compute shows all of them.

    On 2 cores and the embedded corpus: all about 90 minutes, stress 13; book, estimated, 25. The paper's size wants a GPU.
    """
    from dsaml import colab
    from dsaml.experiment import workflow
    from dsaml.experiment.reproduce import reproduce as run_reproduce
    from dsaml.experiment.reproduce import results_folder

    keep = in_repository("book.builder.reference").keep if update else None
    settings = common.chosen_profile(profile, encoder, variant, steps)
    folder = results or results_folder(settings, dataset, root)
    check_results(folder)
    source = common.source_of(dataset, root, cache, imagebind, accept, device)
    done = run_reproduce(what or ["all"], settings, source, range(seeds), folder)
    for title, rows in done.items():
        common.console.print(workflow.terminal_table(rows, title))
    if keep:
        kept = keep(folder, colab.REFERENCE / folder.name)
        typer.echo(f"the reference run: {len(kept)} files in {kept[0].parent}")


@app.command()
def arena(
    dataset: common.DatasetOption = "synthetic",
    root: common.OwnRootOption = None,
    profile: common.ProfileOption = "demo",
    seeds: SeedsOption = 3,
    results: common.ResultsOption = None,
    cache: common.CacheOption = Path("cache"),
) -> None:
    """Is MAML the way? Fourteen ways to personalize from one song, with the same features, tasks, budget and selection.

    As many processes side by side as there are cores; stopped, the same command goes on where it was.

    On 2 cores and the embedded corpus: 19 minutes, and 10 more if reproduce book has not been here yet.
    """
    from dsaml.experiment.arena import run_arena
    from dsaml.experiment.arena_words import terminal_table
    from dsaml.experiment.prepare import prepare

    folder = results or Path("results") / profile
    check_results(folder)
    experiment = prepare(get_profile(profile), common.source_of(dataset, root, cache), task_songs=(None, None))
    common.console.print(terminal_table(run_arena(experiment, range(seeds), folder), common.console.width))


@app.command()
def listeners(
    dataset: common.DatasetOption,
    root: common.OwnRootOption = None,
    profile: common.ProfileOption = "demo",
    seeds: SeedsOption = 3,
    results: common.ResultsOption = None,
    cache: common.CacheOption = Path("cache"),
) -> None:
    """What serves real people: level and shape heads, shrinkage, a prefix state, beside floors, with intervals.

    All of it is in closed form but DSAML on averaged labels, which is trained once for each seed; the methods that personalize by
    training are compared by arena, on the same data sets.
    """
    from dsaml.experiment.listeners import run_listeners, terminal_tables
    from dsaml.experiment.prepare import prepare

    folder = results or Path("results") / profile
    check_results(folder)
    experiment = prepare(get_profile(profile), common.source_of(dataset, root, cache))
    common.console.print(*terminal_tables(run_listeners(experiment, range(seeds), folder)))


@app.command()
def parameters(profile: common.ProfileOption = "paper", variant: common.VariantOption = "paper") -> None:
    """Count the model's trainable parameters by part of Figure 2."""
    from dsaml.model.dsaml import DSAML
    from dsaml.model.weights import parameter_table

    model = DSAML(common.chosen_profile(profile, None, variant).model)
    for part, count in parameter_table(model).items():
        typer.echo(f"{part:12}{count:>14,}")


@app.command()
def grid(
    file: Annotated[Path, typer.Argument(help="YAML: datasets (name, root), profiles, modes, seeds.")],
    out: Annotated[Path, typer.Option(help="Folder of models and result files.")] = Path("results/grid"),
    cache: common.CacheOption = Path("cache"),
    jobs: Annotated[int, typer.Option(help="Runs at a time on this machine, one core each.", min=1)] = 2,
    scheduler: common.SchedulerOption = None,
    device: common.DeviceOption = "auto",
) -> None:
    """Train and score every combination; what has its result file already is not repeated."""
    from rich.table import Table

    from dsaml.experiment.grid import as_rows, read_grid, run_grid
    from dsaml.experiment.progress import counter
    from dsaml.runtime.devices import choose_device

    runs, where = read_grid(file), choose_device(device)
    runs = [replace(run, source=replace(run.source, cache=cache, device=where)) for run in runs]
    for run in runs:
        for ending, own in ((".safetensors", holds_model), (".json", holds_result)):
            check_output(out / f"{run.name}{ending}", own, (file, run.source.root, run.source.imagebind))
    check_folder(cache)
    with counter("grid", "run") as progress:
        failed = run_grid(runs, out, jobs, scheduler, progress=progress)
    if rows := as_rows(runs, out):
        shown = ("dataset", "profile", "mode", "seed", "arousal", "valence")
        table = Table(*shown, title="CCC on the test listeners")
        for row in rows:
            table.add_row(*(f"{row[key]:.3f}" if isinstance(row[key], float) else str(row[key]) for key in shown))
        common.console.print(table)
    if failed:
        name, said = next(iter(failed.items()))
        raise DsamlError(
            f"{len(failed)} of {len(runs)} runs failed, first {name}: {said}; the others are kept, and the same command "
            "tries these again"
        )


@app.command("import-released")
def import_released(
    checkpoint: Annotated[Path, typer.Argument(help="What the authors' released code saves: epoch_N.pt.")],
    out: Annotated[Path, typer.Argument(help="A new .safetensors file.")],
    encoder: Annotated[
        common.EncoderName, typer.Option(help="What it was trained with: as released, ImageBind at 44.1 kHz.")
    ] = "imagebind-44k",
    force: common.ForceOption = False,
) -> None:
    """Make a checkpoint of the authors' released code a model that evaluate, predict and personalize take."""
    from dsaml.experiment import model_files

    check_output(out, holds_model, (checkpoint,), force=force)
    profile = model_files.import_released(checkpoint, out, encoder)
    typer.echo(f"{out}: profile {profile.name}, D = {profile.model.dim}")
