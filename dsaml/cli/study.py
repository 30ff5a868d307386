"""Commands for the subjective study."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from dsaml.cli.common import SEEDS, ForceOption, console
from dsaml.cli.outputs import check_output, holds_json
from dsaml.config import DIMENSIONS
from dsaml.errors import DsamlError

study_app = typer.Typer(
    no_args_is_help=True, help="The subjective study: answer sheets, statistics of rankings, rehearsal."
)


@study_app.command("template")
def study_template(out: Annotated[Path, typer.Argument(help="The CSV to write.")], force: ForceOption = False) -> None:
    """Write an example answer sheet."""
    from dsaml.study import answers

    check_output(out, force=force)  # a sheet that is there may hold answers
    typer.echo(answers.write_template(out))


@study_app.command("simulate")
def study_simulate(
    curves: Annotated[Path, typer.Option("--curves", help="study_curves.json, as make book computes it.")],
    out: Annotated[Path, typer.Option("--out", help="CSV of SIMULATED answers.")],
    noise: Annotated[
        float, typer.Option("--noise", help="SD of the judged distance, on the labels' scale.", min=0.0)
    ] = 0.1,
    seed: Annotated[int, typer.Option("--seed", help="Of the noise.", **SEEDS)] = 0,
    force: ForceOption = False,
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
            "--next",
            help="Participants of a next study, for its power; can be repeated. By default as many.",
            min=3,
            max=1000,
        ),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Mean ranks with intervals, Friedman, paired t-tests with stars, Wilcoxon-Holm, effect sizes.

    Beside them a mixed model of participants and songs, the power of a next study by simulation from these answers, and, where
    study export wrote the order of songs and curves, its effects.
    """
    from dsaml.io import write_json
    from dsaml.study import analysis, effects
    from dsaml.study.answers import read_rankings

    if out:
        check_output(out, holds_json("participants", *DIMENSIONS), (rankings,), force=force)
    answers = read_rankings(rankings)
    found = analysis.analyse(answers)
    mixed, order = effects.mixed_model(answers), effects.order_effects(answers)
    power = {n: effects.simulated_power(answers, n) for n in participants or [found["participants"]]}
    if out:
        write_json(out, effects.without_nan(found | {"mixed_model": mixed, "order": order, "power": power}))
    for table in (*analysis.tables(found), *effects.tables(mixed, order, power)):
        console.print(table)


@study_app.command("power")
def study_power(
    difference: Annotated[float, typer.Option("--difference", help="Mean-rank difference to find.")],
    spread: Annotated[float, typer.Option("--spread", help="SD of that difference over participants.", min=1e-6)],
    participants: Annotated[int, typer.Option("--participants", help="How many take part.", min=3, max=1_000_000)] = 22,
) -> None:
    """Power of the paired t-test, and the smallest difference found in four of five studies."""
    from dsaml.study import analysis

    if not (math.isfinite(difference) and math.isfinite(spread)):
        raise DsamlError(f"--difference {difference}, --spread {spread}: both have to be finite numbers")
    power = analysis.power_curve(difference, spread, [participants])[participants]
    smallest = analysis.detectable_difference(spread, participants)
    typer.echo(
        f"{participants} participants: power {power:.2f}; smallest difference found with power 0.8: {smallest:.2f} ranks"
    )
