"""The command arena: every way to personalize, on equal terms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dsaml.cli.common import CacheOption, DatasetOption, OwnRootOption, ProfileOption, ResultsOption, console, source_of
from dsaml.cli.outputs import check_results

app = typer.Typer()


@app.command()
def arena(
    dataset: DatasetOption = "synthetic",
    root: OwnRootOption = None,
    profile: ProfileOption = "demo",
    seeds: Annotated[int, typer.Option(help="Training seeds 0, 1, …", min=1, max=1000)] = 3,
    results: ResultsOption = None,
    cache: CacheOption = Path("cache"),
) -> None:
    """Is MAML the way? Fourteen ways to personalize from one song, with the same features, tasks, budget and selection.

    As many processes side by side as there are cores; stopped, the same command goes on where it was.
    """
    from dsaml.config import get_profile
    from dsaml.experiment.arena import run_arena
    from dsaml.experiment.arena_words import terminal_table
    from dsaml.experiment.prepare import prepare

    folder = results or Path("results") / profile
    check_results(folder)
    source = source_of(dataset, root, cache)
    experiment = prepare(get_profile(profile), source, task_songs=(None, None))
    payload = run_arena(experiment, range(seeds), folder)
    console.print(terminal_table(payload))
