"""The command listeners: models for people who differ in level, on real labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dsaml.cli.common import CacheOption, DatasetOption, OwnRootOption, ProfileOption, ResultsOption, console, source_of
from dsaml.cli.outputs import check_results

app = typer.Typer()


@app.command()
def listeners(
    dataset: DatasetOption,
    root: OwnRootOption = None,
    profile: ProfileOption = "demo",
    seeds: Annotated[int, typer.Option("--seeds", help="Of the arena's methods: 0, 1, …", min=1, max=1000)] = 3,
    arena: Annotated[
        bool, typer.Option("--arena/--no-arena", help="Also train the arena's methods; the rest is in closed form.")
    ] = True,
    results: ResultsOption = None,
    cache: CacheOption = Path("cache"),
) -> None:
    """What serves real people: level and shape heads, shrinkage, a prefix state, beside floors, with intervals."""
    from dsaml.config import get_profile
    from dsaml.experiment.listeners import run_listeners, terminal_tables
    from dsaml.experiment.prepare import prepare

    folder = results or Path("results") / profile
    check_results(folder)
    source = source_of(dataset, root, cache)
    payload = run_listeners(prepare(get_profile(profile), source), folder, range(seeds), arena)
    console.print(*terminal_tables(payload))
