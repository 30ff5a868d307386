"""Commands for the listening study: designed, served, exported; collected; analysed and rehearsed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import typer

from dsaml.cli import common
from dsaml.cli.outputs import check_folder, check_output, holds_json, holds_mark
from dsaml.config import DIMENSIONS
from dsaml.errors import DsamlError
from dsaml.listen import DEMO_MODEL

study_app = typer.Typer(
    no_args_is_help=True, help="The listening study: run it, with participants or a class; statistics of rankings, rehearsal."
)
FolderArgument = Annotated[Path, typer.Argument(help="The study's folder: design, audio, answers.")]


@study_app.command("new")
def study_new(
    folder: FolderArgument,
    kind: Annotated[
        Literal["study", "class"],
        typer.Option(help="study: adjust one song, rank four curves of others. class: all draw one song."),
    ] = "study",
    dataset: common.DatasetOption = "synthetic",
    root: common.OwnRootOption = None,
    checkpoint: Annotated[
        Path, typer.Option(help="The model that is personalized: one of train --model low-rank.")
    ] = DEMO_MODEL,
    fourth: Annotated[
        Path | None, typer.Option(help="A model whose curve is the fourth; by default the first, shifted to one's mean.")
    ] = None,
    songs: Annotated[int, typer.Option(help="Songs to rank, beside the one to adjust.", min=1, max=50)] = 10,
    named: Annotated[
        list[str] | None, typer.Option("--song", help="A song by its id, the one to draw first. Others by chance.")
    ] = None,
    participants: Annotated[int, typer.Option(help="Links, or seats in a class.", min=1, max=500)] = 22,
    seconds: Annotated[float, typer.Option(help="Of each song, from where its labels begin.", min=5, max=120)] = 30.0,
    seed: Annotated[int, typer.Option(help="Of songs and of blinded orders.", **common.SEEDS)] = 0,
    cache: common.CacheOption = Path("cache"),
) -> None:
    """Design a study into a new folder: songs, curves, participants, orders."""
    from dsaml.study import design

    check_folder(folder)
    count = 1 if kind == "class" else songs
    source = common.source_of(dataset, root, cache)
    made = design.new(folder, kind, source, checkpoint, fourth, count, named or (), participants, seconds, seed)
    typer.echo(f"{folder}: {len(made.songs)} songs, {participants} participants; the model: {made.origin}")
    typer.echo(f"next: python -m dsaml study serve {folder}")


@study_app.command("serve")
def study_serve(
    folder: FolderArgument,
    host: Annotated[
        str, typer.Option(help="127.0.0.1: this machine alone. 0.0.0.0: everybody in the network, unencrypted.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any that is free.", min=0, max=65_535)] = 8000,
) -> None:
    """Serve a study until Ctrl-C; started again, everybody goes on where they were."""
    from dsaml.study.server import serve

    def announce(own: str, experimenter: str, join: str | None = None) -> None:
        typer.echo(f"serving {folder} at {own}")
        if join:
            typer.echo(f"to join: {join}")
        typer.echo(f"for you: {experimenter}")

    serve(folder, host, port, announce)


@study_app.command("export")
def study_export(
    folder: FolderArgument, out: Annotated[Path | None, typer.Option(help="Folder to write into; FOLDER/export by default.")] = None
) -> None:
    """Write the answers: rankings.csv for analyse, curves for personalize and collect, participants.csv."""
    from dsaml.study.export import export

    target = out or folder / "export"
    check_folder(target)
    for path in export(folder, target):
        typer.echo(path)


@study_app.command("collect")
def study_collect(
    curves: Annotated[
        list[Path], typer.Argument(help="Curves of the class, WHO-of-SONG.csv: time_s, arousal, valence in [-1, 1].")
    ],
    out: Annotated[Path, typer.Option(help="The page (HTML).")] = Path("class.html"),
    songs: Annotated[
        list[Path] | None,
        typer.Option("--song", help="Audio of a song, named as in the curves' files: then the model predicts. Repeatable."),
    ] = None,
    checkpoint: common.CheckpointOption = DEMO_MODEL,
    force: common.ForceOption = False,
) -> None:
    """One page of everybody's curves: agreement, floors, and with the songs' audio what personalization adds."""
    from dsaml.listen.personal import load_low_rank
    from dsaml.study.collect import GENERATOR, collect

    check_output(out, holds_mark(GENERATOR), (*curves, *(songs or ()), checkpoint), force=force)
    model = load_low_rank(checkpoint) if songs else None
    drawn = collect(curves, out, model, songs or ())
    for song in drawn.values():
        typer.echo(f"song {song.name}: {len(song.people)} people")
    typer.echo(out)


@study_app.command("template")
def study_template(out: Annotated[Path, typer.Argument(help="The CSV to write.")], force: common.ForceOption = False) -> None:
    """Write an example answer sheet."""
    from dsaml.study import answers

    check_output(out, force=force)  # a sheet that is there may hold answers
    typer.echo(answers.write_template(out))


@study_app.command("simulate")
def study_simulate(
    curves: Annotated[Path, typer.Option(help="study_curves.json, as make book computes it.")],
    out: Annotated[Path, typer.Option(help="CSV of SIMULATED answers.")],
    noise: Annotated[float, typer.Option(help="SD of the judged distance, on the labels' scale.", min=0.0)] = 0.1,
    seed: Annotated[int, typer.Option(help="Of the noise.", **common.SEEDS)] = 0,
    force: common.ForceOption = False,
) -> None:
    """Simulate answers: every simulated listener ranks the curves by the distance to their own true curve."""
    from dsaml.study import answers

    check_output(out, inputs=(curves,), force=force)  # a sheet that is there may hold real answers
    if not math.isfinite(noise):
        raise DsamlError(f"--noise {noise}: has to be a finite number")
    table = answers.simulate(answers.read_curves(curves), noise, seed)
    answers.write_rankings(out, table)
    typer.echo(f"{out}: SIMULATED answers of {table.participant_id.nunique()} participants")


@study_app.command("analyse")
def study_analyse(
    rankings: Annotated[Path, typer.Argument(help="CSV: participant_id, song_id, dimension, method, rank (1 = best).")],
    out: Annotated[Path | None, typer.Option("--json", help="Also write every statistic to this file.")] = None,
    participants: Annotated[
        list[int] | None,
        typer.Option(
            "--next", help="Participants of a next study, for its power; can be repeated. By default as many.", min=3, max=1000
        ),
    ] = None,
    force: common.ForceOption = False,
) -> None:
    """Mean ranks with intervals, Friedman, paired t-tests with stars, Wilcoxon-Holm, effect sizes.

    Beside them a mixed model of participants and songs, the power of a next study by simulation from these answers, and, where
    study export wrote the order of songs and curves, its effects.
    """
    from dsaml.experiment.results import plain
    from dsaml.io import write_json
    from dsaml.study import analysis
    from dsaml.study.answers import read_rankings

    if out:
        check_output(out, holds_json("participants", *DIMENSIONS), (rankings,), force=force)
    answers = read_rankings(rankings)
    found = analysis.analyse(answers)
    power = {n: analysis.simulated_power(answers, n) for n in participants or [found["participants"]]}
    found |= {"mixed_model": analysis.mixed_model(answers), "order": analysis.order_effects(answers), "power": power}
    if out:
        write_json(out, plain(found))
    for table in analysis.tables(found):
        common.console.print(table)


@study_app.command("power")
def study_power(
    difference: Annotated[float, typer.Option(help="Mean-rank difference to find.")],
    spread: Annotated[float, typer.Option(help="SD of that difference over participants.", min=1e-6)],
    participants: Annotated[int, typer.Option(help="How many take part.", min=3, max=1_000_000)] = 22,
) -> None:
    """Power of the paired t-test, and the smallest difference found in four of five studies."""
    from dsaml.study import analysis

    if not (math.isfinite(difference) and math.isfinite(spread)):
        raise DsamlError(f"--difference {difference}, --spread {spread}: both have to be finite numbers")
    power = analysis.power_curve(difference, spread, [participants])[participants]
    smallest = analysis.detectable_difference(spread, participants)
    typer.echo(f"{participants} participants: power {power:.2f}; smallest difference found with power 0.8: {smallest:.2f} ranks")
