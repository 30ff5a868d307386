"""The command listeners: models for people who differ in level, on real labels."""

from __future__ import annotations

from pathlib import Path

import typer

from dsaml.cli.common import CacheOption, DatasetOption, OwnRootOption, ProfileOption, ResultsOption, console, source_of
from dsaml.cli.outputs import check_results

app = typer.Typer()


@app.command()
def listeners(
    dataset: DatasetOption,
    root: OwnRootOption = None,
    profile: ProfileOption = "demo",
    results: ResultsOption = None,
    cache: CacheOption = Path("cache"),
) -> None:
    """What serves real people: level and shape heads, shrinkage, a prefix state, beside floors, with intervals.

    All of it is in closed form; the methods that are trained are compared by arena, on the same data sets.
    """
    from dsaml.config import get_profile
    from dsaml.experiment.listeners import run_listeners, terminal_tables
    from dsaml.experiment.prepare import prepare

    folder = results or Path("results") / profile
    check_results(folder)
    source = source_of(dataset, root, cache)
    payload = run_listeners(prepare(get_profile(profile), source), folder)
    console.print(*terminal_tables(payload))
